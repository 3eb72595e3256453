"""Everything that writes techniques and their versions."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction

from accounts import audit
from accounts.caller import Caller
from accounts.exceptions import Conflict, NotFound
from prompts.exceptions import TemplateError
from prompts.markup import Value, parse, place
from prompts.models import Technique, TechniqueVersion
from prompts.variables import Variable, declared

# The variable that stands for the text that a technique is applied to.
PROMPT = "prompt"
MOST_CHARACTERS = 20_000


def add_technique(*, by: Caller, template: str, parameters: Any = None, **fields: Any) -> Technique:
    """A new technique with its first version. Raises `TemplateError`, and `Conflict` if the slug is taken."""
    said = checked(template, parameters)
    try:
        with transaction.atomic():
            technique = Technique.objects.create(**fields, latest_version=1)
            TechniqueVersion.objects.create(technique=technique, number=1, author_id=by.user_id, **said)
            audit.record("technique.created", by=by, target=technique)
    except IntegrityError as error:
        if "technique_slug" not in str(error):
            raise
        raise Conflict("There is a technique of this name.", code="name_taken", param="slug") from None
    return technique


def change_technique(
    *,
    technique_id: UUID,
    by: Caller,
    template: str | None = None,
    parameters: Any = None,
    seen_version: int | None = None,
    **fields: Any,
) -> Technique:
    """Write what is given. If the template or the parameters become others, that is a new version.

    The next prompt gets it, in every process. Raises `NotFound`, `TemplateError`, and `Conflict` if the latest version
    is not `seen_version`, the one that is to be changed.
    """
    with transaction.atomic():
        technique = Technique.objects.select_for_update(no_key=True).filter(pk=technique_id).first()
        if technique is None:
            raise NotFound
        if seen_version not in {None, technique.latest_version}:
            raise changed_meanwhile(technique.latest_version)
        latest = technique.versions.get(number=technique.latest_version)
        said = checked(
            latest.template if template is None else template, latest.parameters if parameters is None else parameters
        )
        changed = sorted(name for name, value in fields.items() if getattr(technique, name) != value)
        for name in changed:
            setattr(technique, name, fields[name])
        if said != {"template": latest.template, "parameters": latest.parameters}:
            technique.latest_version += 1
            number = technique.latest_version
            TechniqueVersion.objects.create(technique=technique, number=number, author_id=by.user_id, **said)
            changed.append(f"version {number}")
        if changed:
            technique.save()
            audit.record("technique.updated", by=by, target=technique, fields=changed)
    return technique


def changed_meanwhile(latest: int) -> Conflict:
    return Conflict(
        f"Somebody has saved version {latest} while this page was open. Open it again, and change that one.",
        code="changed_meanwhile",
    )


def checked(template: str, parameters: Any) -> dict[str, Any]:
    """The template and its parameters as they are stored. Raises `TemplateError` for what could not be applied.

    Whoever is not asked for parameters must get a whole text, so each of them has a default or is not required.
    """
    if len(template) > MOST_CHARACTERS:
        raise _refusal(f"A template has at most {MOST_CHARACTERS:,} characters.", "too_large")
    own = declared(parameters or [])
    _check_parameters(own)
    known = {PROMPT, *(variable.name for variable in own)}
    places = 0
    for piece in parse(template, param="template"):
        if isinstance(piece, str):
            continue
        if not isinstance(piece, Value):
            raise _refusal("The template of a technique includes no others.", "include_not_allowed")
        if piece.name not in known:
            where = place(template, piece.at)
            raise _refusal(f"{piece.name} is not among the parameters ({where}).", "undeclared_variable")
        places += piece.name == PROMPT
    if places != 1:
        raise _refusal(f"{{{{ {PROMPT} }}}} must stand in the template once, not {places} times.", "prompt_not_once")
    return {"template": template, "parameters": [variable.as_json() for variable in own]}


def _check_parameters(own: tuple[Variable, ...]) -> None:
    for variable in own:
        if variable.name == PROMPT:
            raise TemplateError(f"{PROMPT} is the text itself, and no parameter.", param="parameters")
        if variable.required:
            raise TemplateError(
                f"{variable.name} needs a default, or `required: false`: techniques are chosen without asking.",
                code="missing_default",
                param="parameters",
            )


def _refusal(message: str, code: str) -> TemplateError:
    return TemplateError(message, code=code, param="template")
