"""Audit events as a file, newest first, in pieces of a page each: between two of them nothing is held."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import QuerySet

from accounts.models import AuditEvent

PAGE = 500
FIELDS = (
    *("id", "created_at", "action", "status", "actor_id", "actor_email", "target_type", "target_id"),
    *("ip", "user_agent", "metadata"),
)
# What begins with one of them is a formula to a spreadsheet (OWASP, CSV injection).
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")

_encoder = DjangoJSONEncoder(ensure_ascii=False)


def as_csv(events: QuerySet[AuditEvent]) -> Iterator[bytes]:
    """UTF-8 with a line of names (RFC 4180); what a spreadsheet would run gets an apostrophe in front."""
    yield _lines([FIELDS])
    for page in _pages(events):
        yield _lines([_cell(event[field]) for field in FIELDS] for event in page)


def as_json(events: QuerySet[AuditEvent]) -> Iterator[bytes]:
    """One array, an event a line."""
    before = "[\n"
    for page in _pages(events):
        yield (before + ",\n".join(_encoder.encode(event) for event in page)).encode()
        before = ",\n"
    yield b"[]\n" if before == "[\n" else b"\n]\n"


def _pages(events: QuerySet[AuditEvent]) -> Iterator[list[dict[str, Any]]]:
    rows = events.order_by("-pk").values(*FIELDS)
    page = list(rows[:PAGE])
    while page:
        yield page
        page = list(rows.filter(pk__lt=page[-1]["id"])[:PAGE]) if len(page) == PAGE else []


def _lines(rows: Iterable[Iterable[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _cell(value: Any) -> str:
    match value:
        case None:
            text = ""
        case str():
            text = value
        case dict() | list():
            text = _encoder.encode(value)
        case _:
            text = str(_encoder.default(value))
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text
