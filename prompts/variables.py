"""What a template may be given: names with types and defaults, and the text that stands for a value."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from prompts.exceptions import TemplateError
from prompts.markup import VARIABLE_PATTERN

MOST_VARIABLES = 100
MOST_CHOICES = 200
# Characters of a default, and of a choice.
MOST_DEFAULT = 10_000
MOST_CHOICE = 200
# From here on a number with a point or an exponent, which is read as a double, may have lost digits.
EXACT = 2.0**53
FIELDS = {"name", "type", "required", "default", "choices", "description"}
TYPES: dict[str, str] = {
    "string": "a text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "enum": "one of its choices",
    "list": "a list of texts",
}
INSTEAD_OF_INEXACT: dict[str, str] = {
    "integer": "a whole number of at most 64 bits, written without a point or exponent",
    "number": "a whole number of at most 64 bits, or a number below 2^53: of others, digits could be lost",
}


@dataclass(frozen=True, slots=True)
class Variable:
    """One declared variable. Without a default, one that is not required stands for nothing: an empty text."""

    name: str
    type: str = "string"
    required: bool = True
    default: Any = None
    choices: tuple[str, ...] = ()
    description: str = ""

    def text(self, value: Any, *, param: str) -> str:
        """What stands in the template for a value. Raises `TemplateError` if it is of another type."""
        if not self.accepts(value):
            raise TemplateError(f"{self.name} must be {self._kind(value)}.", code="invalid_type", param=param)
        if self.type == "list":
            return ", ".join(value)
        return value if isinstance(value, str) else json.dumps(value)

    def read(self, text: str) -> Any:
        """What a text stands for, where callers can send nothing else: `7`, `true`, `["a", "b"]`.

        The text itself if it does not stand for a value of this type; of a list, its only one.
        """
        if self.type in ("string", "enum"):
            return text
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError:
            value = text
        if value is None:
            return text
        return [text] if self.type == "list" and not isinstance(value, list) else value

    def _kind(self, value: Any) -> str:
        """What would be accepted instead of a value, in words."""
        if self.type == "enum":
            return f"one of {', '.join(self.choices)}"[:300]
        is_inexact = isinstance(value, float) and abs(value) >= EXACT
        return INSTEAD_OF_INEXACT.get(self.type, TYPES[self.type]) if is_inexact else TYPES[self.type]

    def accepts(self, value: Any) -> bool:
        if self.type == "boolean":
            return isinstance(value, bool)
        if self.type == "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        if self.type == "number":
            if isinstance(value, float):
                return abs(value) < EXACT
            return isinstance(value, int) and not isinstance(value, bool)
        if self.type == "list":
            return isinstance(value, list) and all(isinstance(item, str) for item in value)
        return isinstance(value, str) and (self.type == "string" or value in self.choices)

    def as_json(self) -> dict[str, Any]:
        """As it is stored and shown: without what was not said."""
        shown: dict[str, Any] = {"name": self.name, "type": self.type, "required": self.required}
        if self.default is not None:
            shown["default"] = self.default
        if self.choices:
            shown["choices"] = list(self.choices)
        if self.description:
            shown["description"] = self.description
        return shown


def stored(rows: list[dict[str, Any]]) -> tuple[Variable, ...]:
    """Those of a version, which were checked when it was made."""
    return tuple(Variable(**row | {"choices": tuple(row.get("choices", ()))}) for row in rows)


def declared(rows: Any) -> tuple[Variable, ...]:
    """The declarations in `rows`, as a caller wrote them. Raises `TemplateError`."""
    if not isinstance(rows, list) or len(rows) > MOST_VARIABLES:
        raise _refusal(f"`variables` must be a list of at most {MOST_VARIABLES} declarations.", "variables")
    variables = tuple(_declared(row, f"variables.{index}") for index, row in enumerate(rows))
    seen: set[str] = set()
    for index, variable in enumerate(variables):
        if variable.name in seen:
            raise _refusal(f"{variable.name} is declared twice.", f"variables.{index}.name", "duplicate")
        seen.add(variable.name)
    return variables


def _declared(row: Any, param: str) -> Variable:
    if not isinstance(row, Mapping):
        raise _refusal("A declaration must be an object with a name.", param)
    if unknown := sorted(set(row) - FIELDS):
        raise _refusal(f"A declaration has no field {unknown[0][:60]}.", f"{param}.{unknown[0][:60]}", "unknown_field")
    name, kind = row.get("name"), row.get("type", "string")
    if not isinstance(name, str) or not re.fullmatch(VARIABLE_PATTERN, name, re.ASCII):
        raise _refusal("A name has letters, digits and underscores, and begins with no digit.", f"{param}.name")
    if not isinstance(kind, str) or kind not in TYPES:
        raise _refusal(f"The type must be one of {', '.join(TYPES)}.", f"{param}.type")
    description = row.get("description", "")
    if not isinstance(description, str) or len(description) > 500:
        raise _refusal("The description must be a text of at most 500 characters.", f"{param}.description")
    default = row.get("default")
    required = row.get("required", default is None)
    if not isinstance(required, bool) or (required and default is not None):
        raise _refusal("What has a default is not required; `required` is true or false.", f"{param}.required")
    choices = _choices(row.get("choices"), kind, f"{param}.choices")
    variable = Variable(name, kind, required, default, choices, description)
    if default is not None and len(variable.text(default, param=f"{param}.default")) > MOST_DEFAULT:
        raise _refusal(f"A default has at most {MOST_DEFAULT} characters.", f"{param}.default", "too_large")
    return variable


def _choices(choices: Any, kind: str, param: str) -> tuple[str, ...]:
    if kind != "enum":
        if choices is not None:
            raise _refusal("Only an enum has choices.", param)
        return ()
    if not isinstance(choices, list) or not 0 < len(choices) <= MOST_CHOICES:
        raise _refusal(f"An enum has a list of 1 to {MOST_CHOICES} choices.", param)
    if not all(isinstance(choice, str) and len(choice) <= MOST_CHOICE for choice in choices):
        raise _refusal(f"Choices are texts of at most {MOST_CHOICE} characters.", param)
    if len(set(choices)) < len(choices):
        raise _refusal("Each choice is named once.", param)
    return tuple(choices)


def _refusal(message: str, param: str, code: str = "invalid_variable") -> TemplateError:
    return TemplateError(message, code=code, param=param)
