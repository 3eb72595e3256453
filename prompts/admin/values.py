"""Values of variables as people type them into forms."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from django import forms
from django.utils.html import escape
from unfold.widgets import (
    UnfoldAdminExpandableTextareaWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
)

from accounts.exceptions import InvalidInput
from prompts.variables import TYPES, Variable

PREFIX = "variable"
NUMBERS: dict[str, tuple[type[int] | type[float], ...]] = {"integer": (int,), "number": (int, float)}
BOOLEANS = {"true": True, "false": False}


class VariablesForm(forms.Form):
    """A field for each variable, with what was typed before or else its default. Rendering says what is wrong."""

    def __init__(self, variables: Iterable[Variable], typed: Mapping[str, str]) -> None:
        super().__init__(prefix=PREFIX)
        for variable in variables:
            field = _field(variable)
            field.initial = typed.get(f"{PREFIX}-{variable.name}", shown_value(variable.default))
            self.fields[variable.name] = field


def given_values(variables: Iterable[Variable], typed: Mapping[str, str]) -> dict[str, Any]:
    """What was typed, by name. An empty field gives nothing, unless it is a text that may be empty.

    Raises `InvalidInput` for what no text of ours may hold.
    """
    values = {}
    for variable in variables:
        text = typed.get(f"{PREFIX}-{variable.name}")
        if text is None:
            continue
        if "\0" in text:
            param = f"variables.{variable.name}"
            raise InvalidInput("Text must not contain NUL characters.", code="nul_character", param=param)
        text = text.replace("\r\n", "\n")
        if text or (variable.type == "string" and not variable.required):
            values[variable.name] = typed_value(variable.type, text)
    return values


def typed_value(kind: str, text: str) -> Any:
    """A text as a value of a type; itself if it is none, so that whoever checks the value can name it."""
    if kind == "list":
        return [line for line in text.split("\n") if line.strip()]
    if kind == "boolean":
        return BOOLEANS.get(text, text)
    for number in NUMBERS.get(kind, ()):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def shown_value(value: Any) -> str:
    """A value as it would be typed."""
    if value is None or isinstance(value, str):
        return value or ""
    return "\n".join(value) if isinstance(value, list) else json.dumps(value)


def _field(variable: Variable) -> forms.Field:
    widget: forms.Widget
    if variable.type in {"enum", "boolean"}:
        named = variable.choices if variable.type == "enum" else tuple(BOOLEANS)
        # Where something must be chosen, the first is as good as any.
        choices = [*([] if variable.required else [("", "nothing")]), *((name, name) for name in named)]
        widget = UnfoldAdminSelectWidget(choices=choices)
    elif variable.type in NUMBERS:
        widget = UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal", "autocomplete": "off"})
    else:
        widget = UnfoldAdminExpandableTextareaWidget()
    said = [TYPES[variable.type] + (", one a line" if variable.type == "list" else "")]
    if variable.type in {"enum", "boolean", "string"}:
        said = []
    if variable.description:
        said.insert(0, variable.description)
    # The theme shows help as it is, and this is what somebody has written.
    return forms.CharField(
        label=variable.name, required=variable.required, widget=widget, help_text=escape(". ".join(said))
    )
