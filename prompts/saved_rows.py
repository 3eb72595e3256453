"""Saved prompts as rows of files: JSON, and CSV with the columns of our own export or `act,prompt` of public lists.

What is wrong with a row is an error of that row; `InvalidInput` is for a file that has no rows that could be read.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson
from django.conf import settings

from accounts.audit_export import FORMULA_STARTS
from accounts.exceptions import InvalidInput
from inference.exceptions import BodyTooLarge
from inference.payloads import check_depth
from prompts.collections import MOST_NAME
from prompts.exceptions import RowError
from prompts.saved import MOST_TAGS, MOST_TITLE
from prompts.tree import MOST_DEPTH

MOST_BYTES = 5 * 1024 * 1024
MOST_ROWS = 10_000
MOST_TAG = 50
# What the export in JSON says that it is.
FORMAT, VERSION = "mainstay-prompts", 1
COLUMNS = ("title", "description", "content", "tags", "collection", "is_favourite")
OTHER_NAMES = {"act": "title", "prompt": "content", "folder": "collection"}
WORDS = {"yes": True, "true": True, "1": True, "": False, "no": False, "false": False, "0": False}

_FORMULA = re.compile(f"'*[{re.escape(''.join(FORMULA_STARTS))}]")
# Within names of a path, a slash and a backslash have a backslash before them.
_SLASH = re.compile(r"((?:[^\\/]|\\.)*)(?:/|\Z)", re.DOTALL)

# The module's own limit is for everybody who uses it, and below what a prompt may have.
csv.field_size_limit(MOST_BYTES)


@dataclass(frozen=True, slots=True)
class PromptRow:
    number: int
    title: str
    content: str
    description: str
    tags: list[str]
    folder: tuple[str, ...]
    is_favourite: bool


@dataclass(slots=True)
class PromptFile:
    """What a file says. `folders` are the descriptions of folders by their paths, `ignored` the columns not known."""

    rows: list[PromptRow] = field(default_factory=list)
    errors: list[RowError] = field(default_factory=list)
    folders: dict[tuple[str, ...], str] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)


def read_file(data: bytes) -> PromptFile:
    """What is in a file; which format it has shows in how it begins. `BodyTooLarge`, `InvalidInput`."""
    if len(data) > MOST_BYTES:
        raise BodyTooLarge(f"A file has at most {MOST_BYTES // 1024 // 1024} MB.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InvalidInput(f"The file is not in UTF-8 (line {line}).", code="not_utf8") from None
    begin = text.lstrip()[:1]
    if not begin:
        raise InvalidInput("The file is empty.", code="empty_file")
    found = PromptFile()
    numbered = _json_rows(text, found) if begin in "[{" else _csv_rows(text, found)
    for number, row in numbered:
        if number > MOST_ROWS:
            raise InvalidInput(f"A file has at most {MOST_ROWS:,} rows.", code="too_many_rows")
        if isinstance(row, RowError):
            found.errors.append(row)
        else:
            _take(found, number, row)
    if not found.rows and not found.errors and not found.folders:
        raise InvalidInput("There are no prompts in the file.", code="empty_file")
    return found


def _take(found: PromptFile, number: int, row: Any) -> None:
    try:
        found.rows.append(prompt_row(number, row))
    except InvalidInput as error:
        found.errors.append(RowError(number, f"{error.param}: {error}" if error.param else str(error), error.code))


def prompt_row(number: int, row: Any) -> PromptRow:
    """A row, checked. `InvalidInput` says which field is wrong."""
    if not isinstance(row, dict):
        raise InvalidInput("A prompt is an object with title and content.", code="invalid_type")
    row = {OTHER_NAMES[name]: value for name, value in row.items() if name in OTHER_NAMES} | row
    content = _text(row, "content")
    if not content.strip():
        raise _required("content")
    return PromptRow(
        number=number,
        title=_name(row.get("title"), "title", MOST_TITLE),
        content=content,
        description=_text(row, "description").strip(),
        tags=_tags(row.get("tags")),
        folder=_folder(row.get("collection")),
        is_favourite=_yes_or_no(row.get("is_favourite")),
    )


# Formats -------------------------------------------------------------------------------------------------------------


def _json_rows(text: str, found: PromptFile) -> Iterator[tuple[int, Any]]:
    """A list of prompts, or an object with `prompts`, and perhaps `collections` as an export has them."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"The file is not valid JSON: {error.msg}.", code="invalid_json") from None
    check_depth(value, settings.MAX_JSON_DEPTH)
    if isinstance(value, dict):
        _check_format(value)
    rows = value.get("prompts") if isinstance(value, dict) else value
    if not isinstance(rows, list):
        raise InvalidInput("There must be a list of prompts.", code="invalid_type", param="prompts")
    folders = value.get("collections") if isinstance(value, dict) else None
    for number, folder in enumerate(folders if isinstance(folders, list) else [], start=1):
        if not isinstance(folder, dict) or not (path := _folder(folder.get("path"))):
            raise InvalidInput(f"Collection {number} has no path.", code="invalid_type", param="collections")
        found.folders[path] = _text(folder, "description")
    yield from enumerate(rows, start=1)


def _check_format(value: dict[str, Any]) -> None:
    """What says of itself that it is something else, or of a later version, is not read as if it were an export."""
    if value.get("format", FORMAT) != FORMAT:
        raise InvalidInput(f"The format of the file is not {FORMAT}.", code="unknown_format", param="format")
    if value.get("version", VERSION) != VERSION:
        raise InvalidInput(f"Only version {VERSION} of {FORMAT} can be read.", code="unknown_version", param="version")


def _csv_rows(text: str, found: PromptFile) -> Iterator[tuple[int, dict[str, str] | RowError]]:
    """Rows under the line of names. A broken one does not keep those behind it from being read."""
    first = text.lstrip().partition("\n")[0]
    rows = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=max(",;\t", key=first.count))
    names = _names(rows, found)
    number = 0
    while True:
        number += 1
        line = rows.line_num + 1
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield number, RowError(number, f"This is no CSV (line {line}): {error}.", "invalid_csv")
            continue
        if not cells:
            number -= 1
        elif len(cells) != len(names):
            message = f"The row has {len(cells)} cells, and there are {len(names)} columns (line {line})."
            yield number, RowError(number, message, "wrong_number_of_cells")
        else:
            yield number, {name: unguarded(cell) for name, cell in zip(names, cells, strict=True)}


def _names(rows: Iterator[list[str]], found: PromptFile) -> list[str]:
    try:
        given = [name.strip().lower() for name in next((row for row in rows if row), [])]
    except csv.Error as error:
        raise InvalidInput(f"The first line is no CSV: {error}.", code="invalid_csv") from None
    names = [OTHER_NAMES.get(name, name) for name in given]
    for column in ("title", "content"):
        if names.count(column) != 1:
            raise InvalidInput(
                "The first line must name the columns title and content, or act and prompt.", code="missing_column"
            )
    found.ignored = [name for name in given if OTHER_NAMES.get(name, name) not in COLUMNS]
    return names


def guarded(cell: str) -> str:
    """A text that no spreadsheet takes for a formula: before what looks like one, there is an apostrophe (more)."""
    return f"'{cell}" if _FORMULA.match(cell) else cell


def unguarded(cell: str) -> str:
    """The text that `guarded` has made this of."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def path_text(path: list[str]) -> str:
    """A path in a cell: names with slashes between them."""
    return "/".join(re.sub(r"([\\/])", r"\\\1", name) for name in path)


# Fields --------------------------------------------------------------------------------------------------------------


def _required(name: str) -> InvalidInput:
    return InvalidInput("This is required.", code="required", param=name)


def _text(row: dict[str, Any], name: str) -> str:
    value = row.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidInput("This must be a text.", code="invalid_type", param=name)
    if "\0" in value:
        raise InvalidInput("Text must not contain NUL characters.", code="nul_character", param=name)
    return value


def _name(value: Any, param: str, most: int) -> str:
    """A text of one line's length, without spaces around it."""
    text = _text({param: value}, param).strip()
    if not text:
        raise _required(param)
    if len(text) > most:
        raise InvalidInput(f"This has more than {most} characters.", code="max_length", param=param)
    return text


def _tags(value: Any) -> list[str]:
    """A list, or names with commas between them."""
    if value is not None and not isinstance(value, list):
        value = _text({"tags": value}, "tags").split(",")
    tags = list(dict.fromkeys(_name(tag, "tags", MOST_TAG) for tag in value or [] if tag != "" and not _is_blank(tag)))
    if len(tags) > MOST_TAGS:
        raise InvalidInput(f"There are more than {MOST_TAGS} tags.", code="max_length", param="tags")
    if any("," in tag for tag in tags):
        raise InvalidInput("A tag has no comma.", code="invalid_tag", param="tags")
    return tags


def _is_blank(value: Any) -> bool:
    return isinstance(value, str) and not value.strip()


def _folder(value: Any) -> tuple[str, ...]:
    """A path: a list of names, or names with slashes between them. Nothing is the top."""
    if value is not None and not isinstance(value, list):
        text = _text({"collection": value}, "collection").strip()
        value = [re.sub(r"\\(.)", r"\1", part, flags=re.DOTALL) for part in _parts(text)] if text else []
    path = tuple(_name(name, "collection", MOST_NAME) for name in value or [])
    if len(path) > MOST_DEPTH:
        raise InvalidInput(f"Collections are at most {MOST_DEPTH} deep.", code="too_deep", param="collection")
    return path


def _parts(text: str) -> list[str]:
    """What stands between the slashes that have no backslash before them."""
    parts: list[str] = []
    at = 0
    while True:
        match = _SLASH.match(text, at)
        if match is None:
            raise InvalidInput("A path ends with a backslash.", code="invalid_path", param="collection")
        parts.append(match[1])
        if match.end(1) == len(text):
            return parts
        at = match.end()


def _yes_or_no(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = _text({"is_favourite": value}, "is_favourite").strip().lower()
    if word not in WORDS:
        raise InvalidInput("This is yes or no.", code="invalid_value", param="is_favourite")
    return WORDS[word]
