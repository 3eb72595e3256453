"""All that a person has here, as one JSON object, in pieces: it may be far larger than memory.

Each piece is read by queries of its own. Between two pieces nothing is held, no transaction and no connection, however
slowly they are taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any
from uuid import UUID

from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import Q, QuerySet
from django.utils import timezone

from accounts.belongings import Belonging, Part, all_belongings

PIECE = 64 * 1024
PARTS_PAGE = 200

# Python's own encoder: a JSON column may hold numbers that faster ones refuse.
_encoder = DjangoJSONEncoder(ensure_ascii=False)


class _Lookahead:
    """Rows to be taken one after the other; `next` is the one that comes, or None."""

    def __init__(self, rows: Iterator[dict[str, Any]]) -> None:
        self._rows = rows
        self.next = next(rows, None)

    def take(self) -> dict[str, Any]:
        assert self.next is not None
        taken, self.next = self.next, next(self._rows, None)
        return taken


def exported(user_id: UUID) -> Iterator[bytes]:
    """The pieces of the export: each some PIECE bytes, or a page of rows if that is more."""
    gathered: list[str] = []
    size = 0
    for text in _document(user_id):
        gathered.append(text)
        size += len(text)
        if size >= PIECE:
            yield "".join(gathered).encode()
            gathered, size = [], 0
    yield "".join(gathered).encode()


def _document(user_id: UUID) -> Iterator[str]:
    """The user comes first, as the belongings end with the user."""
    yield f'{{"exported_at":{_encoder.encode(timezone.now())}'
    for belonging in reversed(all_belongings()):
        if belonging.section:
            yield f",\n{_encoder.encode(belonging.section)}:"
            yield from _single(belonging, user_id) if belonging.is_single else _list(belonging, user_id)
    yield "}\n"


def _single(belonging: Belonging, user_id: UUID) -> Iterator[str]:
    found = belonging.rows_of(user_id).values(*belonging.fields).first()
    yield _encoder.encode(belonging.row(found) if found else None)


def _list(belonging: Belonging, user_id: UUID) -> Iterator[str]:
    yield "["
    separator = "\n"
    for page in _pages(belonging, user_id):
        for text in _texts(belonging, page):
            yield separator
            yield from text
            separator = ",\n"
    yield "]"


def _texts(belonging: Belonging, page: list[dict[str, Any]]) -> Iterator[Iterable[str]]:
    """The rows of a page, each in pieces, as what hangs on one may be large; they must be taken in order."""
    if belonging.part is None:
        yield from ([_encoder.encode(belonging.row(row))] for row in page)
        return
    parts = _Lookahead(_parts(belonging.part, [row["id"] for row in page]))
    for row in page:
        yield _with_parts(belonging.row(row), belonging.part, parts)


def _with_parts(row: dict[str, Any], part: Part, parts: _Lookahead) -> Iterator[str]:
    yield f"{_encoder.encode(row)[:-1]},{_encoder.encode(part.name)}:["
    comma = ""
    while parts.next is not None and parts.next[part.parent] == row["id"]:
        found = parts.take()
        yield comma + _encoder.encode({name: found[name] for name in part.fields})
        comma = ","
    yield "]}"


def _pages(belonging: Belonging, user_id: UUID) -> Iterator[list[dict[str, Any]]]:
    rows = belonging.rows_of(user_id).order_by("pk").values(*belonging.fields)
    page = list(rows[: belonging.page])
    while page:
        yield page
        page = list(rows.filter(pk__gt=page[-1]["id"])[: belonging.page]) if len(page) == belonging.page else []


def _parts(part: Part, parents: list[UUID]) -> Iterator[dict[str, Any]]:
    """The parts of all parents of a page, those of one parent together."""
    manager: QuerySet[Any] = part.model._default_manager.filter(**{f"{part.parent}__in": parents})
    rows = manager.order_by(part.parent, "pk").values(part.parent, *part.fields)
    page = list(rows[:PARTS_PAGE])
    while page:
        yield from page
        parent, last = page[-1][part.parent], page[-1]["id"]
        after = Q(**{f"{part.parent}__gt": parent}) | Q(**{part.parent: parent}, pk__gt=last)
        page = list(rows.filter(after)[:PARTS_PAGE])
