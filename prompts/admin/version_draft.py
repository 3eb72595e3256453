"""A version while it is written: what its form holds, and what of it is at fault."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from django.http import QueryDict

from prompts.admin.values import shown_value, typed_value
from prompts.exceptions import TemplateError
from prompts.models import PromptVersion
from prompts.templates import ROLES, derived_variables
from prompts.variables import TYPES

OPTIONAL = "optional"
PARTS = ("name", "type", "need", "default", "choices", "description")

Row = dict[str, str]


@dataclass(slots=True)
class Draft:
    """`variables` have the texts of `PARTS`. Errors are known by the field that a service names."""

    is_text: bool = True
    text: str = ""
    messages: list[Row] = field(default_factory=list)
    variables: list[Row] = field(default_factory=list)
    commit_message: str = ""
    errors: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, version: PromptVersion | None) -> Draft:
        """What the next version begins with. Variables that nobody declared are found in its own text again."""
        if version is None:
            return cls(messages=[{"role": "system", "content": ""}, {"role": "user", "content": ""}])
        is_text = isinstance(version.content, str)
        declared = [] if version.variables == derived_variables(version.content) else version.variables
        return cls(
            is_text=is_text,
            text=version.content if is_text else "",
            messages=[{"role": "user", "content": ""}] if is_text else list(version.content),
            variables=[_typed(row) for row in declared],
        )

    @classmethod
    def posted(cls, posted: QueryDict) -> Draft:
        columns = [[_text(value) for value in posted.getlist(f"variable_{part}")] for part in PARTS]
        rows = [dict(zip(PARTS, cells, strict=True)) for cells in zip(*columns, strict=False)]
        said = zip(posted.getlist("role"), posted.getlist("content"), strict=False)
        return cls(
            is_text=posted.get("kind") != "messages",
            text=_text(posted.get("text", "")),
            messages=[{"role": role, "content": _text(content)} for role, content in said],
            variables=[row for row in rows if row["name"] or row["default"] or row["choices"] or row["description"]],
            commit_message=posted.get("commit_message", "").strip(),
        )

    @property
    def content(self) -> Any:
        return self.text if self.is_text else self.messages

    @property
    def declarations(self) -> list[dict[str, Any]] | None:
        """As a service takes them; None if there are none, which declares what stands in the content."""
        return [_declaration(row) for row in self.variables] or None

    def refuse(self, refusal: TemplateError) -> None:
        self.errors[refusal.param or "content"] = str(refusal)

    def error_below(self, place: str) -> str:
        """The error of a field, or of one within it."""
        return next((said for param, said in self.errors.items() if f"{param}.".startswith(f"{place}.")), "")

    def rows(self) -> dict[str, Any]:
        """For the template of the page: each row with its error, and an empty one of each kind."""
        return {
            "messages_written": [
                row | {"error": self.error_below(f"content.{number}")} for number, row in enumerate(self.messages)
            ],
            "variables": [
                row | {"error": self.error_below(f"variables.{number}")} for number, row in enumerate(self.variables)
            ],
            "content_error": self.errors.get("content", ""),
            "variables_error": self.errors.get("variables", ""),
            "commit_message_error": self.errors.get("commit_message", ""),
            "empty_message": {"role": "user"},
            "empty_variable": {"type": "string", "need": "required"},
            "roles": ROLES,
            "types": TYPES,
        }


def _text(value: str) -> str:
    """As it was typed: browsers send line ends in pairs."""
    return value.replace("\r\n", "\n").replace("\0", "")


def _typed(row: dict[str, Any]) -> Row:
    return {
        "name": row["name"],
        "type": row["type"],
        "need": "required" if row["required"] else OPTIONAL,
        "default": shown_value(row.get("default")),
        "choices": "\n".join(row.get("choices", ())),
        "description": row.get("description", ""),
    }


def _declaration(row: Row) -> dict[str, Any]:
    """What has a default is not required, whatever is chosen beside it."""
    declared: dict[str, Any] = {"name": row["name"].strip(), "type": row["type"], "description": row["description"]}
    if row["default"]:
        declared["default"] = typed_value(row["type"], row["default"])
    else:
        declared["required"] = row["need"] != OPTIONAL
    if row["type"] == "enum" or row["choices"].strip():
        declared["choices"] = [line.strip() for line in row["choices"].split("\n") if line.strip()]
    return declared
