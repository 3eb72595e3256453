"""What a feature flag may give: true or false, a number, or a short text."""

from __future__ import annotations

import json
import math
from typing import Any

from django.core.exceptions import ValidationError

FlagValue = bool | int | float | str

# Characters of a text.
LONGEST = 1000
# Beyond it, JavaScript reads another number than was written.
LARGEST = 2**53


def check_value(value: Any) -> None:
    """Django's `ValidationError` unless a flag may give this, and every client can read it."""
    if isinstance(value, bool):
        return
    if isinstance(value, str):
        if len(value) > LONGEST:
            raise ValidationError(f"A text has at most {LONGEST} characters.")
        # Neither is text to PostgreSQL: the zero character, and half of a surrogate pair.
        if any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in value):
            raise ValidationError("This text has characters that cannot be stored.")
    elif not isinstance(value, int | float):
        raise ValidationError("A value is true or false, a number or a text.")
    elif not math.isfinite(value) or abs(value) > LARGEST:
        raise ValidationError(f"A number lies between -{LARGEST} and {LARGEST}.")


def parse_value(text: str) -> FlagValue:
    """What an operator has typed: `true`, `100`, or any other text; in quotes, a text that looks like a number."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = text
    check_value(value)
    return value  # type: ignore[no-any-return]


def typed_value(value: FlagValue) -> str:
    """What an operator would type to get this value."""
    if not isinstance(value, str):
        return json.dumps(value)
    return value if _is_plain(value) else json.dumps(value, ensure_ascii=False)


def _is_plain(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return text == text.strip() != ""
    return False
