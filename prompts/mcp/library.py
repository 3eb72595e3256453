"""What a user has as MCP prompts: templates under their names, and saved prompts as `saved/<id>`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.db.models.functions import Left

from accounts.exceptions import InvalidInput
from accounts.ids import UUID_PATTERN
from prompts.cursors import opened, sealed
from prompts.exceptions import PromptNotFound, TemplateError
from prompts.markup import TARGET_PATTERN, Include, Piece, Value, parse
from prompts.mcp.arguments import signatures
from prompts.models import PromptTemplate, SavedPrompt
from prompts.models.templates import DEFAULT_LABEL, NAME_PATTERN
from prompts.rendering import render, render_text
from prompts.variables import MOST_VARIABLES, TYPES, Variable

PAGE = 50
MOST_VALUES = 100
# A saved prompt is no template: one with more characters is sent as it is, without a look for variables.
MOST_CHARACTERS = 64 * 1024
SAVED = "saved/"
SALT = "prompts.mcp"

_REFERENCE = re.compile(rf"({NAME_PATTERN})(?:@({TARGET_PATTERN}))?", re.ASCII)
_SAVED = re.compile(rf"{SAVED}({UUID_PATTERN})", re.ASCII)
# The protocol knows two roles. What was another's is said by the user, and marked.
_ROLES = ("user", "assistant")
ROLE_KEY = "mainstay/role"
VERSION_KEY = "mainstay/version"


@dataclass(frozen=True, slots=True)
class Page:
    prompts: list[dict[str, Any]]
    next_cursor: str | None


def list_prompts(*, user_id: UUID, cursor: str = "") -> Page:
    """Templates by name, as the label `production` has them, then saved prompts, newest first.

    `cursor` is the `next_cursor` of the page before: the name of its last one. Raises `InvalidCursor`.
    """
    last = opened(cursor, of=str(user_id), salt=SALT)[0] if cursor else ""
    saved = _SAVED.fullmatch(last)
    templates = [] if saved else list(_templates(user_id).filter(name__gt=last)[:PAGE])
    room = PAGE - len(templates)
    prompts = list(_saved_prompts(user_id, before=UUID(saved[1]) if saved else None)[: room + 1]) if room else []
    names = [*(template["name"] for template in templates), *(_saved_name(prompt) for prompt in prompts[:room])]
    more = not room or len(prompts) > room
    return Page(
        [*_template_entries(user_id, templates), *(_saved_entry(prompt) for prompt in prompts[:room])],
        sealed([names[-1]], of=str(user_id), salt=SALT) if more else None,
    )


def get_prompt(*, user_id: UUID, name: str, arguments: Mapping[str, str]) -> dict[str, Any]:
    """The messages of a prompt with these arguments, all of which are texts.

    Raises `PromptNotFound` and what `render` raises.
    """
    if saved := _SAVED.fullmatch(name):
        prompt = _saved_prompt(user_id, UUID(saved[1]))
        pieces, variables = _read(prompt.content)
        text = render_text(pieces, variables, arguments)
        return {"description": prompt.title, "messages": [_message("user", text)]}
    template, target = _reference(name)
    target = target or DEFAULT_LABEL
    version = int(target) if target.isdecimal() else None
    rendering = render(
        owner_id=user_id,
        name=template,
        label="" if version else target,
        version=version,
        variables=arguments,
        as_texts=True,
    )
    messages = [_message(message["role"], message["content"]) for message in rendering.messages]
    return {"messages": messages, "_meta": {VERSION_KEY: rendering.number}}


def complete(*, user_id: UUID, name: str, argument: str, begun: str) -> list[str]:
    """The values that an argument can have, of those that begin so; none where everything is allowed.

    Raises `PromptNotFound`, and `InvalidInput` for an argument that the prompt does not have.
    """
    if saved := _SAVED.fullmatch(name):
        variables = _read(_saved_prompt(user_id, UUID(saved[1])).content)[1]
    else:
        template, target = _reference(name)
        reference = f"{template}@{target or DEFAULT_LABEL}"
        found = signatures(owner_id=user_id, references=[reference])
        if reference not in found:
            raise PromptNotFound(param="ref.name")
        variables = found[reference]
    variable = next((variable for variable in variables if variable.name == argument), None)
    if variable is None:
        raise InvalidInput(
            f"The prompt has no argument {argument[:60]}.", code="unknown_variable", param="argument.name"
        )
    values = ("true", "false") if variable.type == "boolean" else variable.choices
    return [value for value in values if value.casefold().startswith(begun.casefold())]


# Templates ------------------------------------------------------------------------------------------------------------


def _templates(user_id: UUID) -> QuerySet[PromptTemplate, Any]:
    """Those that a name alone can mean: an own one that has the label goes before a shared one."""
    own = PromptTemplate.objects.alive().filter(user_id=user_id, name=OuterRef("name"), labels__name=DEFAULT_LABEL)
    visible = PromptTemplate.objects.visible_to(user_id).filter(Q(user_id=user_id) | ~Exists(own))
    return visible.filter(labels__name=DEFAULT_LABEL).order_by("name").values("name", "description")


def _template_entries(user_id: UUID, templates: list[dict[str, Any]]) -> list[dict[str, Any]]:
    references = {f"{template['name']}@{DEFAULT_LABEL}": template for template in templates}
    found = signatures(owner_id=user_id, references=list(references))
    return [
        _entry(template["name"], template["description"], found[reference])
        for reference, template in references.items()
        if reference in found
    ]


def _reference(name: str) -> tuple[str, str]:
    """A template's name, and the label or number behind it, if there is one."""
    match = _REFERENCE.fullmatch(name)
    if match is None:
        raise PromptNotFound(param="name")
    return match[1], match[2] or ""


# Saved prompts --------------------------------------------------------------------------------------------------------


def _saved_prompts(user_id: UUID, *, before: UUID | None) -> QuerySet[SavedPrompt, Any]:
    mine = SavedPrompt.objects.filter(user_id=user_id, **({"pk__lt": before} if before else {}))
    # No more of a text than what shows that it is too long to be read.
    return mine.order_by("-pk").values("pk", "title", text=Left(F("content"), MOST_CHARACTERS + 1))


def _saved_prompt(user_id: UUID, prompt_id: UUID) -> SavedPrompt:
    prompt = SavedPrompt.objects.filter(user_id=user_id, pk=prompt_id).only("title", "content").first()
    if prompt is None:
        raise PromptNotFound(param="name")
    return prompt


def _saved_name(prompt: dict[str, Any]) -> str:
    return f"{SAVED}{prompt['pk']}"


def _saved_entry(prompt: dict[str, Any]) -> dict[str, Any]:
    # Clients of earlier versions show no titles.
    entry = _entry(_saved_name(prompt), prompt["title"], _read(prompt["text"])[1])
    return {**entry, "title": prompt["title"]}


def _read(text: str) -> tuple[tuple[Piece, ...], tuple[Variable, ...]]:
    """A saved text and the variables in it. One that is no plain template stands for itself, braces and all."""
    if len(text) > MOST_CHARACTERS:
        return (text,), ()
    try:
        pieces = parse(text)
    except TemplateError:
        return (text,), ()
    names = dict.fromkeys(piece.name for piece in pieces if isinstance(piece, Value))
    if len(names) > MOST_VARIABLES or any(isinstance(piece, Include) for piece in pieces):
        return (text,), ()
    return pieces, tuple(Variable(name) for name in names)


# What clients are shown -----------------------------------------------------------------------------------------------


def _entry(name: str, description: str, variables: tuple[Variable, ...]) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": name}
    if description:
        entry["description"] = description
    return {**entry, "arguments": [_argument(variable) for variable in variables]}


def _argument(variable: Variable) -> dict[str, Any]:
    argument: dict[str, Any] = {"name": variable.name, "required": variable.required}
    hint = f"one of {', '.join(variable.choices)}"[:300] if variable.choices else TYPES[variable.type]
    described = [variable.description] if variable.description else []
    if variable.type != "string":
        described.append(f"({hint})")
    return {**argument, "description": " ".join(described)} if described else argument


def _message(role: str, text: str) -> dict[str, Any]:
    content: dict[str, Any] = {"type": "text", "text": text}
    if role not in _ROLES:
        return {"role": "user", "content": {**content, "_meta": {ROLE_KEY: role}}}
    return {"role": role, "content": content}
