"""The conversations of a file one after the other, however many there are: of a JSON array, or one a line."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import IO, Any

import orjson

from accounts.exceptions import InvalidInput

PIECE = 64 * 1024
# One conversation is in memory at a time.
MOST_BYTES_EACH = 64 * 1024 * 1024
SPACES = re.compile(r"[ \t\r\n]*")

# Where it is in the file, for people, and what it is.
Found = tuple[str, Any]


def values_of(file: IO[bytes]) -> Iterator[Found]:
    """The values of a file in UTF-8. `InvalidInput` names the line or the number of what is none."""
    line, start = 1, file.readline(PIECE).removeprefix(codecs.BOM_UTF8)
    while start and not start.strip():
        line, start = line + start.count(b"\n"), file.readline(PIECE)
    if not start:
        raise InvalidInput("The file is empty.", code="empty_file")
    if start.lstrip().startswith(b"["):
        return _Array(file, start).values()
    return _lines(file, start, line)


def _lines(file: IO[bytes], start: bytes, number: int) -> Iterator[Found]:
    """One value a line; or one value alone, in as many lines as it likes."""
    line = start if start.endswith(b"\n") else start + _line(file, number)
    try:
        yield f"Line {number}", orjson.loads(line)
    except orjson.JSONDecodeError:
        whole = line + file.read(MOST_BYTES_EACH)
        yield f"Line {number}", _loaded(whole, number)
        return
    while line := _line(file, number + 1):
        number += 1
        if line.strip():
            yield f"Line {number}", _loaded(line, number)


def _line(file: IO[bytes], number: int) -> bytes:
    line = file.readline(MOST_BYTES_EACH + 1)
    if len(line) > MOST_BYTES_EACH:
        raise _too_long(f"Line {number}")
    return line


def _loaded(text: bytes, number: int) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        line = number + error.lineno - 1
        raise InvalidInput(f"Line {line}: this is no JSON: {error.msg}.", code="invalid_json") from None


class _Array:
    """A JSON array, of which no more than one element is in memory."""

    def __init__(self, file: IO[bytes], start: bytes) -> None:
        self.file, self.number = file, 0
        self.decoder = codecs.getincrementaldecoder("utf-8")()
        self.text, self.at = self._decoded(start), 0

    def values(self) -> Iterator[Found]:
        self._take("[")
        if self._next() != "]":
            yield self._value()
            while self._next() == ",":
                self._take(",")
                yield self._value()
        self._take("]")
        if self._next():
            raise self._wrong("something comes after the end of the list")

    def _value(self) -> Found:
        self._next()
        self.number += 1
        while True:
            try:
                value, self.at = DECODER.raw_decode(self.text, self.at)
            except RecursionError:
                raise self._wrong("it is nested too deep") from None
            except ValueError as error:
                # It may be that the rest of it was not read yet.
                if len(self.text) - self.at > MOST_BYTES_EACH:
                    raise _too_long(self.where) from None
                if not self._read():
                    why = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
                    raise self._wrong(f"this is no JSON: {why}") from None
            else:
                return self.where, value

    def _next(self) -> str:
        """The next character that is no space; empty at the end."""
        while True:
            match = SPACES.match(self.text, self.at)
            self.at = match.end() if match else self.at
            if self.at < len(self.text) or not self._read():
                return self.text[self.at : self.at + 1]

    def _take(self, character: str) -> None:
        if self._next() != character:
            raise self._wrong(f"a {character} is missing after it" if self.number else f"a {character} is missing")
        self.at += 1

    def _read(self) -> bool:
        """More of the file, twice as much each time: so what is read in vain stays below what is read."""
        rest = self.text[self.at :]
        piece = self.file.read(max(PIECE, len(rest)))
        self.text, self.at = rest + self._decoded(piece), 0
        return bool(piece)

    def _decoded(self, piece: bytes) -> str:
        try:
            return self.decoder.decode(piece, final=not piece)
        except UnicodeDecodeError:
            raise self._wrong("this is no UTF-8") from None

    @property
    def where(self) -> str:
        return f"Conversation {self.number}"

    def _wrong(self, what: str) -> InvalidInput:
        return InvalidInput(f"{self.where}: {what}.", code="invalid_json")


def _refused(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _too_long(where: str) -> InvalidInput:
    return InvalidInput(f"{where}: a conversation has at most {MOST_BYTES_EACH >> 20} MB.", code="content_too_long")


DECODER = json.JSONDecoder(parse_constant=_refused)
