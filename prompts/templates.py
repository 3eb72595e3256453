"""Everything that writes prompt templates, their versions and labels."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts import audit
from accounts.caller import Caller
from accounts.exceptions import Conflict, InvalidInput, NotAllowed
from accounts.scopes import Scope
from prompts.exceptions import LabelNotFound, TemplateError, TemplateNotFound, VersionNotFound
from prompts.includers import keeping_includers
from prompts.markup import Include, Value, parse, place
from prompts.models import PromptLabel, PromptTemplate, PromptVersion
from prompts.models.templates import LABEL_PATTERN
from prompts.rendering import (
    MOST_BYTES,
    Body,
    Message,
    bodies_of,
    check_tree,
    not_a_text,
    parsed,
    render_draft,
    resolve,
)
from prompts.variables import MOST_VARIABLES, Variable, declared

ROLES = ("system", "developer", "user", "assistant")
MOST_MESSAGES = 100
MOST_INCLUDES = 50
MOST_LABELS = 50
SHARING = "prompts.change_prompttemplate"


def find_template(*, user_id: UUID, name: str) -> PromptTemplate:
    """The user's own template of this name, or else the shared one. Raises `TemplateNotFound`."""
    visible = list(PromptTemplate.objects.visible_to(user_id).filter(name=name))
    if not visible:
        raise TemplateNotFound
    return next((template for template in visible if template.user_id == user_id), visible[0])


def own_template(*, user_id: UUID, name: str) -> PromptTemplate:
    """The user's own template. `NotAllowed` if it is another's that is shared, else `TemplateNotFound`."""
    template = find_template(user_id=user_id, name=name)
    if template.user_id != user_id:
        raise NotAllowed("Only its owner can change a shared template.")
    return template


def create_template(
    *,
    by: Caller,
    name: str,
    owner_id: UUID | None = None,
    content: Any = None,
    variables: Any = None,
    commit_message: str = "",
    **fields: Any,
) -> PromptTemplate:
    """A new template, with a first version if there is content. It is the caller's own, or its `owner_id`'s.

    Raises `Conflict` if the name is taken, `NotAllowed` if it is to be shared, or another's, and `by` is no operator;
    `TemplateError`.
    """
    _check_sharing(by, fields)
    if owner_id not in {None, by.user_id} and not by.has_perm(SHARING):
        raise NotAllowed("Only operators make templates for others.")
    try:
        with transaction.atomic():
            template = PromptTemplate.objects.create(user_id=owner_id or by.user_id, name=name, **fields)
            audit.record("prompt_template.created", by=by, target=template)
            if content is not None:
                add_version(
                    template=template, by=by, content=content, variables=variables, commit_message=commit_message
                )
    except IntegrityError as error:
        raise _taken(error) from None
    return template


def change_template(*, template: PromptTemplate, by: Caller, **fields: Any) -> PromptTemplate:
    """Change what is said about a template. Which labels are protected is itself protected."""
    _check_sharing(by, fields)
    if "protected_labels" in fields:
        _check_protected(by)
    try:
        with transaction.atomic():
            locked = _locked(template)
            for name, value in fields.items():
                setattr(locked, name, value)
            locked.save()
            audit.record("prompt_template.updated", by=by, target=template, fields=sorted(fields))
    except IntegrityError as error:
        raise _taken(error) from None
    return locked


def delete_template(*, template: PromptTemplate, by: Caller) -> None:
    """Take a template away. Its versions stay for the requests that they ran in; its labels go and its name is free.

    `Conflict` if another template of its owner's needs it, in a version that a label stands for.
    """
    with transaction.atomic():
        locked = _locked(template)
        labels = list(locked.labels.values_list("name", flat=True))
        if set(labels) & set(locked.protected_labels):
            _check_protected(by)
        with keeping_includers(locked, but=labels):
            locked.labels.all().delete()
            PromptTemplate.objects.filter(pk=locked.pk).update(deleted_at=timezone.now())
        audit.record("prompt_template.deleted", by=by, target=template)


def add_version(
    *, template: PromptTemplate, by: Caller, content: Any, variables: Any = None, commit_message: str = ""
) -> PromptVersion:
    """The next version. Without declarations, each variable that stands in it is a required text.

    Raises `TemplateError` for whatever could not be rendered later, as far as that is known now.
    """
    body, includes = _checked(template, content, variables)
    with transaction.atomic():
        locked = _locked(template)
        locked.latest_version += 1
        locked.save(update_fields=["latest_version", "updated_at"])
        # Its number may have meant the version of a shared template until now.
        with keeping_includers(locked):
            version = PromptVersion.objects.create(
                template=locked,
                number=locked.latest_version,
                content=content,
                variables=[variable.as_json() for variable in body.variables],
                includes=includes,
                commit_message=commit_message,
                author_id=by.user_id,
            )
        audit.record("prompt_version.created", by=by, target=template, number=version.number)
    return version


def derived_variables(content: Any) -> list[dict[str, Any]]:
    """What a version with this content has if none are declared, as it is stored. Raises `TemplateError`."""
    texts = _texts(content)
    return [variable.as_json() for variable in _own_variables(_named(texts), texts, None)]


def preview(*, template: PromptTemplate, content: Any, variables: Any = None) -> list[Message]:
    """The messages of a version that is not made, by its defaults. Refused as `add_version` refuses it."""
    body, includes = _checked(template, content, variables)
    return render_draft(owner_id=template.user_id, body=body, includes=includes)


def move_label(
    *, template: PromptTemplate, label: str, number: int, by: Caller, expected: int | None = None
) -> PromptLabel:
    """Let a label stand for a version; it is made if there is none.

    With `expected`, only if it stands for that version now (0: if there is no such label), else `Conflict`. A protected
    label wants the owner, an operator, or a key with the scope admin. Raises `NotAllowed`, `VersionNotFound`, and
    `Conflict` if it would break what includes the template.
    """
    if not re.fullmatch(LABEL_PATTERN, label):
        raise InvalidInput("A label has small letters, digits, - and _, and begins with a letter.", param="label")
    with transaction.atomic():
        locked = _locked(template)
        if label in locked.protected_labels:
            _check_protected(by)
        version = locked.versions.filter(number=number).first()
        if version is None:
            raise VersionNotFound(param="version")
        _check_labelled(locked, version)
        current = locked.labels.filter(name=label).select_related("version").first()
        former = current.version.number if current else 0
        if expected is not None and expected != former:
            raise Conflict(f"{label} stands for version {former or 'none'}.", code="label_moved", param="expected")
        if current is None and locked.labels.count() >= MOST_LABELS:
            raise Conflict(f"A template has at most {MOST_LABELS} labels.", code="too_many_labels")
        now = timezone.now()
        moved = {"version": version, "moved_at": now}
        with keeping_includers(locked, but=[label]):
            row, _created = PromptLabel.objects.update_or_create(
                template=locked, name=label, defaults=moved, create_defaults=moved | {"created_at": now}
            )
        audit.record("prompt_label.moved", by=by, target=template, label=label, former=former, number=number)
    return row


def remove_label(*, template: PromptTemplate, label: str, by: Caller) -> None:
    """Raises `LabelNotFound`, `NotAllowed` if it is protected, `Conflict` if another template needs it."""
    with transaction.atomic():
        locked = _locked(template)
        if label in locked.protected_labels:
            _check_protected(by)
        with keeping_includers(locked, but=[label]):
            deleted, _by_model = locked.labels.filter(name=label).delete()
        if not deleted:
            raise LabelNotFound
        audit.record("prompt_label.removed", by=by, target=template, label=label)


def _checked(template: PromptTemplate, content: Any, variables: Any) -> tuple[Body, list[str]]:
    """A version as it could be made now, and what it includes. Raises `TemplateError`."""
    check_content(content)
    texts = _texts(content)
    body = parsed(content, _own_variables(_named(texts), texts, variables))
    return body, _check_includes(template, texts)


def check_content(content: Any) -> None:
    """`TemplateError` unless it is one text or a list of messages, and not too large."""
    if isinstance(content, list):
        if not 0 < len(content) <= MOST_MESSAGES:
            raise TemplateError(f"There must be 1 to {MOST_MESSAGES} messages.", code="invalid_type", param="content")
        for index, message in enumerate(content):
            _check_message(message, f"content.{index}")
    elif not isinstance(content, str) or not content:
        raise TemplateError("`content` must be a text or a list of messages.", code="invalid_type", param="content")
    if sum(len(text.encode()) for text in _texts(content).values()) > MOST_BYTES:
        raise TemplateError(f"A version has at most {MOST_BYTES} bytes.", code="too_large", param="content")


def _check_message(message: Any, param: str) -> None:
    if not isinstance(message, dict) or set(message) != {"role", "content"}:
        raise TemplateError("A message has a role and a content.", code="invalid_type", param=param)
    if message["role"] not in ROLES:
        raise TemplateError(f"The role must be one of {', '.join(ROLES)}.", code="invalid_role", param=f"{param}.role")
    if not isinstance(message["content"], str):
        raise TemplateError("The content must be a text.", code="invalid_type", param=f"{param}.content")


def _texts(content: Any) -> dict[str, str]:
    """The texts of a content, by the field that an error would name."""
    if isinstance(content, str):
        return {"content": content}
    return {f"content.{index}.content": message["content"] for index, message in enumerate(content)}


def _named(texts: dict[str, str]) -> dict[str, tuple[str, int]]:
    """The variables that stand in the texts, each with the field and the place where it stands first."""
    names: dict[str, tuple[str, int]] = {}
    for param, text in texts.items():
        for piece in parse(text, param=param):
            if isinstance(piece, Value):
                names.setdefault(piece.name, (param, piece.at))
    return names


def _own_variables(names: dict[str, tuple[str, int]], texts: dict[str, str], variables: Any) -> tuple[Variable, ...]:
    if variables is None:
        if len(names) > MOST_VARIABLES:
            raise TemplateError(f"There are more than {MOST_VARIABLES} variables.", param="content")
        return tuple(Variable(name) for name in names)
    own = declared(variables)
    known = {variable.name for variable in own}
    for name, (param, at) in names.items():
        if name not in known:
            raise TemplateError(
                f"{name} is not among the declared variables ({place(texts[param], at)}).",
                code="undeclared_variable",
                param=param,
            )
    return own


def _check_includes(template: PromptTemplate, texts: dict[str, str]) -> list[str]:
    """The references of a new version, all of which lead to a text now, and none back to its own template."""
    references: dict[str, tuple[str, int]] = {}
    for param, text in texts.items():
        for piece in parse(text, param=param):
            if isinstance(piece, Include):
                references.setdefault(piece.reference, (param, piece.at))
    if len(references) > MOST_INCLUDES:
        raise TemplateError(
            f"A version includes at most {MOST_INCLUDES} others.", code="too_many_includes", param="content"
        )
    for reference, (param, at) in references.items():
        where = f"{param}, {place(texts[param], at)}"
        if reference.partition("@")[0] == template.name:
            raise TemplateError(f"{template.name} includes itself ({where}).", code="include_cycle", param=param)
    missing = _check_reach(template, list(references))
    if missing:
        param, at = references[missing]
        raise TemplateError(
            f"There is nothing to include as {missing} ({place(texts[param], at)}).",
            code="unknown_include",
            param=param,
        )
    return list(references)


def _check_reach(template: PromptTemplate, references: list[str]) -> str:
    """Follow references from a version of a template; the first that leads nowhere, if any. Raises `TemplateError`."""
    if not references:
        return ""
    tree = resolve(owner_id=template.user_id, references=references)
    for found in tree.values():
        if found.template_id == template.pk:
            raise TemplateError(
                f"{template.name} includes itself through others.", code="include_cycle", param="content"
            )
    check_tree(tree, above=1)
    bodies = bodies_of({found.version_id for found in tree.values()})
    for found in tree.values():
        if not bodies[found.version_id].is_text:
            raise not_a_text(found)
    return next((reference for reference in references if (None, reference) not in tree), "")


def _check_labelled(template: PromptTemplate, version: PromptVersion) -> None:
    """What the version includes may have come to include it, since it was made."""
    if missing := _check_reach(template, version.includes):
        raise TemplateError(f"There is nothing to include as {missing}.", code="unknown_include", param="version")


def _locked(template: PromptTemplate) -> PromptTemplate:
    """The template, with all that is written about it waiting for this transaction. Raises `TemplateNotFound`."""
    found = PromptTemplate.objects.alive().select_for_update(no_key=True).filter(pk=template.pk).first()
    if found is None:
        raise TemplateNotFound
    return found


def _check_sharing(by: Caller, fields: dict[str, Any]) -> None:
    if fields.get("is_shared") and not by.has_perm(SHARING):
        raise NotAllowed("Only operators share templates with everybody.")


def _check_protected(by: Caller) -> None:
    if not by.has_scope(Scope.ADMIN):
        raise NotAllowed("This label is protected: an API key needs the scope admin.", code="label_protected")


def _taken(error: IntegrityError) -> Exception:
    """A refusal if the name was the reason, else the error itself."""
    constraint = getattr(getattr(error.__cause__, "diag", None), "constraint_name", None)
    if constraint in {"prompttemplate_name", "prompttemplate_shared_name"}:
        return Conflict("There is a template of this name.", code="name_taken", param="name")
    return error
