"""The language of templates: a text, `{{ name }}` for a value, `{{> other@label }}` for another template.

There is nothing else in it, and so nothing that could run: no attributes, calls, filters, conditions or loops.
`\\{{` and `\\{%` stand for the braces themselves; a backslash before those is written twice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from prompts.exceptions import TemplateError
from prompts.models.templates import DEFAULT_LABEL, LABEL_PATTERN, NAME_PATTERN

VARIABLE_PATTERN = "[A-Za-z_][A-Za-z0-9_]{0,63}"
# A label, or the number of a version.
TARGET_PATTERN = f"{LABEL_PATTERN}|[1-9][0-9]{{0,8}}"

# Of three braces the last two count, so that a value can stand right behind a brace: `{{{ name }}}`.
_OPENING = re.compile(r"\{\{(?!\{)|\{%")
_VALUE = re.compile(rf"\s*({VARIABLE_PATTERN})\s*", re.ASCII)
_INCLUDE = re.compile(rf"\s*>\s*({NAME_PATTERN})(?:@({TARGET_PATTERN}))?\s*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Value:
    """The place of a variable, `at` characters into the text."""

    name: str
    at: int


@dataclass(frozen=True, slots=True)
class Include:
    """The place of another template. `reference` is `name@label` or `name@number`."""

    reference: str
    at: int


Piece = str | Value | Include


def parse(text: str, *, param: str = "content") -> tuple[Piece, ...]:
    """The pieces of a text, in order. Raises `TemplateError` with a code, `param` and the place."""
    pieces: list[Piece] = []
    begin = 0
    for opening in _OPENING.finditer(text):
        at = opening.start()
        if at < begin:
            continue
        literal = text[begin:at]
        backslashes = len(literal) - len(literal.rstrip("\\"))
        pieces.append(literal[: len(literal) - backslashes] + "\\" * (backslashes // 2))
        if backslashes % 2:
            pieces.append(opening.group())
            begin = opening.end()
        else:
            piece, begin = _tag(text, at, param)
            pieces.append(piece)
    pieces.append(text[begin:])
    return tuple(piece for piece in pieces if piece != "")


def _tag(text: str, at: int, param: str) -> tuple[Piece, int]:
    """What begins at `at`, and where the text goes on."""
    if text.startswith("{%", at):
        raise TemplateError(
            f"Templates run nothing: {{% means nothing here ({place(text, at)}). Write \\{{% for the text itself.",
            code="code_not_allowed",
            param=param,
        )
    end = text.find("}}", at)
    if end < 0:
        raise TemplateError(
            f"{{{{ is never closed by }}}} ({place(text, at)}).", code="unclosed_placeholder", param=param
        )
    inner = text[at + 2 : end]
    if value := _VALUE.fullmatch(inner):
        return Value(value[1], at), end + 2
    if include := _INCLUDE.fullmatch(inner):
        return Include(f"{include[1]}@{include[2] or DEFAULT_LABEL}", at), end + 2
    shown = inner.strip()[:60]
    raise TemplateError(
        f"{{{{ {shown} }}}} is neither the name of a variable nor an include such as {{{{> other@production }}}} "
        f"({place(text, at)}). Write \\{{{{ for the braces themselves.",
        code="invalid_placeholder",
        param=param,
    )


def place(text: str, at: int) -> str:
    """Where that is, in words."""
    line = text.count("\n", 0, at) + 1
    return f"line {line}, column {at - text.rfind(chr(10), 0, at)}"
