"""Cursors of searches: where a page has ended, in which search."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from uuid import UUID

import orjson

from prompts.cursors import opened, sealed
from prompts.search.modes import Mode
from prompts.search.ranking import Place

SALT = "prompts.search"


@dataclass(frozen=True, slots=True)
class Cursor:
    """The mode in which the pages before were found, why if that was not what was asked for, and by which model."""

    place: Place
    mode: Mode
    reason: str | None
    model_id: UUID | None


def fingerprint(*parts: object) -> str:
    """What a search is about; a cursor is good for this alone."""
    return hashlib.sha256(orjson.dumps([str(part) for part in parts])).hexdigest()[:16]


def write(cursor: Cursor, *, of: str) -> str:
    model = str(cursor.model_id) if cursor.model_id else None
    place = [cursor.place.score, str(cursor.place.document_id)]
    return sealed([*place, cursor.mode, cursor.reason, model], of=of, salt=SALT)


def read(text: str, *, of: str) -> Cursor:
    """Raises `InvalidCursor`."""
    score, document_id, mode, reason, model = opened(text, of=of, salt=SALT)
    place = Place(float(score), UUID(document_id))
    return Cursor(place, Mode(mode), reason, UUID(model) if model else None)
