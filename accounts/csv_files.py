"""Reading CSV that people have made, so that whatever is wrong with it is said with its line."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from io import StringIO

from accounts.exceptions import InvalidInput

# The limit of the module, which counts in the whole process, is lower than what those who read refuse by themselves.
LONGEST_CELL = 16 * 1024 * 1024
csv.field_size_limit(LONGEST_CELL)


def rows_of(data: bytes) -> Iterator[tuple[int, list[str]]]:
    """The rows of a file in UTF-8, each with the line that it begins on; empty lines are left out.

    `InvalidInput` names the line of what is no CSV, or no UTF-8.
    """
    reader = csv.reader(StringIO(_decoded(data), newline=""), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise InvalidInput(f"Line {line}: {_trouble(error)}") from None
        if cells:
            yield line, cells


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # With a character of its own, the line counts that has nothing before it.
        line = len((data[: error.start] + b"x").splitlines())
        raise InvalidInput(f"Line {line}: this is no CSV file in UTF-8.") from None


def _trouble(error: csv.Error) -> str:
    if "unexpected end" in str(error):
        return "the row that begins here has a quote that is never closed."
    return f"the row that begins here is no CSV: {error}."
