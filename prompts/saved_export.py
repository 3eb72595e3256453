"""All saved prompts of a user as a file, folder by folder in their order, in pieces of a page each.

With whom they are shared is left out: who imports the file decides that anew.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator
from uuid import UUID

from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import Q
from django.utils import timezone

from prompts.models import SavedPrompt
from prompts.saved import prompts_in
from prompts.saved_rows import COLUMNS, FORMAT, VERSION, guarded, path_text
from prompts.tree import Tree

PAGE = 200

_encoder = DjangoJSONEncoder(ensure_ascii=False)


def as_json(user_id: UUID) -> Iterator[bytes]:
    """One object: the folders by their paths, each before what is in it, and the prompts, one a line."""
    tree = Tree(user_id)
    folders = [{"path": tree.path(folder.pk), "description": folder.description} for folder in tree.below(None)]
    head = {"format": FORMAT, "version": VERSION, "exported_at": timezone.now(), "collections": folders}
    yield f'{_encoder.encode(head)[:-1]}, "prompts": ['.encode()
    separator = "\n"
    for path, page in _pages(user_id, tree):
        yield (separator + ",\n".join(_encoder.encode(_object(prompt, path)) for prompt in page)).encode()
        separator = ",\n"
    yield b"\n]}\n"


def as_csv(user_id: UUID) -> Iterator[bytes]:
    """UTF-8 with a line of names (RFC 4180); what a spreadsheet would run gets an apostrophe in front."""
    yield _lines([COLUMNS])
    for path, page in _pages(user_id, Tree(user_id)):
        yield _lines(_cells(prompt, path) for prompt in page)


FORMATS: dict[str, tuple[str, Callable[[UUID], Iterator[bytes]]]] = {
    "json": ("application/json", as_json),
    "csv": ("text/csv; charset=utf-8", as_csv),
}


def _pages(user_id: UUID, tree: Tree) -> Iterator[tuple[list[str], list[SavedPrompt]]]:
    for folder_id in (None, *(folder.pk for folder in tree.below(None))):
        rows = prompts_in(user_id, folder_id).order_by("position", "id")
        page = list(rows[:PAGE])
        while page:
            yield tree.path(folder_id), page
            last = page[-1]
            beyond = Q(position__gt=last.position) | Q(position=last.position, pk__gt=last.pk)
            page = list(rows.filter(beyond)[:PAGE]) if len(page) == PAGE else []


def _object(prompt: SavedPrompt, path: list[str]) -> dict[str, object]:
    return {
        "title": prompt.title,
        "description": prompt.description,
        "content": prompt.content,
        "tags": prompt.tags,
        "collection": path,
        "is_favourite": prompt.is_favourite,
    }


def _cells(prompt: SavedPrompt, path: list[str]) -> list[str]:
    is_favourite = "yes" if prompt.is_favourite else "no"
    texts = (prompt.title, prompt.description, prompt.content, ",".join(prompt.tags), path_text(path), is_favourite)
    return [guarded(text) for text in texts]


def _lines(rows: Iterable[Iterable[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()
