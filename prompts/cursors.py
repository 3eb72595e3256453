"""Cursors are signed, so that nobody makes one up."""

from __future__ import annotations

from typing import Any

from django.core import signing

from prompts.exceptions import InvalidCursor


def sealed(values: list[Any], *, of: str, salt: str) -> str:
    """A cursor that holds `values`, good for the list or search `of` alone."""
    return signing.dumps([of, *values], salt=salt)


def opened(text: str, *, of: str, salt: str) -> list[Any]:
    """The values. Raises `InvalidCursor`, also for a cursor of something else."""
    values: list[Any]
    try:
        whose, *values = signing.loads(text, salt=salt)
    except (signing.BadSignature, ValueError):
        raise InvalidCursor(param="cursor") from None
    if whose != of:
        raise InvalidCursor(param="cursor")
    return values
