"""From the name of a template and values to messages. Values are inserted as they are, and never read as templates.

Which version a label stands for is asked of the database each time, in one statement for a template and all that it
includes, so a label that was moved is seen by the next call in every process. What a version says never changes, so
that is kept in the process.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from graphlib import CycleError, TopologicalSorter
from typing import Any
from uuid import UUID

from django.db import connection

from accounts.exceptions import InvalidInput
from inference.services import UsedPrompt
from prompts.exceptions import LabelNotFound, TemplateError, TemplateNotFound, VersionNotFound
from prompts.markup import Include, Piece, Value, parse
from prompts.models import PromptTemplate, PromptVersion
from prompts.models.templates import DEFAULT_LABEL, LABEL_PATTERN, NAME_PATTERN
from prompts.variables import Variable, stored

Message = dict[str, str]

MOST_DEPTH = 10
MOST_BYTES = 1024 * 1024
MOST_REFERENCES = 2000
MOST_VERSION = 10**9
NOTHING_INCLUDED = UUID(int=0)
# How many versions a process keeps, and how large one may be to be kept.
MOST_KEPT = 500
MOST_KEPT_CHARACTERS = 64 * 1024

# Names mean the including template's owner's own templates, then those that are shared, of which the first counts that
# has the version; a number is one, anything else a label. The first row stands for whoever asks; it has no version.
RESOLVE = """
WITH RECURSIVE used AS (
    SELECT NULL::uuid AS parent, ''::text AS reference, %(owner)s::uuid AS owner_id, NULL::uuid AS template_id,
        ''::text AS name, NULL::uuid AS version_id, 0 AS number, %(references)s::text[] AS includes, 0 AS depth
  UNION
    SELECT u.version_id, r.reference, f.user_id, f.template_id, f.name::text, f.id, f.number, f.includes::text[],
        u.depth + 1
    FROM used u
    CROSS JOIN LATERAL unnest(u.includes) AS r(reference)
    CROSS JOIN LATERAL (
        SELECT t.user_id, t.name, v.template_id, v.id, v.number, v.includes
        FROM prompts_prompttemplate t
        JOIN prompts_promptversion v ON v.id = COALESCE(
            (SELECT version_id FROM prompts_promptlabel
                WHERE template_id = t.id AND name = split_part(r.reference, '@', 2)),
            (SELECT id FROM prompts_promptversion
                WHERE template_id = t.id
                AND number = CASE WHEN r.reference ~ '^[^@]*@[0-9]{1,9}$' THEN split_part(r.reference, '@', 2)::int END)
        )
        WHERE t.name = split_part(r.reference, '@', 1) AND t.deleted_at IS NULL
            AND (t.user_id = u.owner_id OR t.is_shared)
        ORDER BY t.user_id = u.owner_id DESC LIMIT 1
    ) f
    WHERE u.depth < %(depth)s
)
SELECT parent, reference, template_id, name, version_id, number, depth FROM used WHERE depth > 0 LIMIT %(most)s
"""


@dataclass(frozen=True, slots=True)
class Found:
    """What a reference stands for now."""

    template_id: UUID
    name: str
    version_id: UUID
    number: int
    depth: int


@dataclass(frozen=True, slots=True)
class Body:
    """What a version says, parsed. A text is one message without a role."""

    roles: tuple[str, ...]
    texts: tuple[tuple[Piece, ...], ...]
    variables: tuple[Variable, ...]

    @property
    def is_text(self) -> bool:
        return self.roles == ("",)


@dataclass(frozen=True, slots=True)
class Rendering:
    """Messages that are ready to be sent, and what they were made from; `label` is empty if a version was named."""

    name: str
    label: str
    number: int
    version_id: UUID
    messages: list[Message]
    is_text: bool

    @property
    def text(self) -> str | None:
        return self.messages[0]["content"] if self.is_text else None

    @property
    def used(self) -> UsedPrompt:
        """What the request of a call with these messages keeps of them."""
        return UsedPrompt(self.version_id, self.name, self.number, self.label)


Tree = dict[tuple[UUID | None, str], Found]
_kept: dict[UUID, Body] = {}


def render(
    *,
    owner_id: UUID,
    name: str,
    label: str = "",
    version: int | None = None,
    variables: Mapping[str, Any],
    param: str = "",
    as_texts: bool = False,
    gaps: bool = False,
) -> Rendering:
    """Render the version that a label (`production` if none is named) or a number stands for.

    `owner_id` says whose templates names mean first. `param` stands before the fields that errors name. With `as_texts`
    all values are texts, and each is read as its variable's type wants (`Variable.read`). With `gaps`, a variable
    without a value is left as it is written, instead of refused. Raises `TemplateNotFound`, `LabelNotFound`,
    `VersionNotFound`, `TemplateError`, and `InvalidInput` for what cannot be a name or a label.
    """
    _check_reference(name, label, param)
    target = str(version) if version is not None else label or DEFAULT_LABEL
    tree, root, bodies = _loaded(owner_id, name, target, param)
    declared = _declarations(tree, bodies)
    if as_texts:
        variables = {name: declared[name].read(text) if name in declared else text for name, text in variables.items()}
    texts = _values(declared, variables, f"{param}variables", gaps=gaps)
    body = bodies[root.version_id]
    return Rendering(
        name=root.name,
        label="" if version is not None else target,
        number=root.number,
        version_id=root.version_id,
        messages=_messages(_Writer(tree, bodies, texts), root.version_id, body),
        is_text=body.is_text,
    )


def render_text(pieces: tuple[Piece, ...], variables: tuple[Variable, ...], values: Mapping[str, Any]) -> str:
    """A text that belongs to no template and includes none. Raises `TemplateError`."""
    texts = _values({variable.name: variable for variable in variables}, values, "variables")
    return _Writer({}, {}, texts).text(None, pieces)


def render_draft(*, owner_id: UUID, body: Body, includes: list[str]) -> list[Message]:
    """The messages of a version that is not made yet, by the defaults of its variables; the others are left as gaps."""
    tree = resolve(owner_id=owner_id, references=includes)
    bodies = bodies_of({found.version_id for found in tree.values()})
    variables = _declarations(tree, bodies) | {variable.name: variable for variable in body.variables}
    return _messages(_Writer(tree, bodies, _values(variables, {}, "variables", gaps=True)), None, body)


def variables_of(*, owner_id: UUID, name: str, target: str) -> tuple[Variable, ...]:
    """What a version takes, with what it includes. `target` is a label or a number. Raises as `render` does."""
    tree, _root, bodies = _loaded(owner_id, name, target, "")
    return tuple(_declarations(tree, bodies).values())


def _loaded(owner_id: UUID, name: str, target: str, param: str) -> tuple[Tree, Found, dict[UUID, Body]]:
    reference = f"{name}@{target}"
    tree = resolve(owner_id=owner_id, references=[reference])
    root = tree.get((None, reference))
    if root is None:
        raise _missing(owner_id, name, target, param)
    check_tree(tree)
    return tree, root, bodies_of({found.version_id for found in tree.values()})


def _messages(writer: _Writer, version_id: UUID | None, body: Body) -> list[Message]:
    contents = [writer.text(version_id, pieces) for pieces in body.texts]
    if sum(len(content.encode()) for content in contents) > MOST_BYTES:
        raise _too_large()
    return [{"role": role or "user", "content": content} for role, content in zip(body.roles, contents, strict=True)]


def _check_reference(name: str, label: str, param: str) -> None:
    if not re.fullmatch(NAME_PATTERN, name, re.ASCII):
        raise InvalidInput(
            "A name has small letters, digits and . _ -, at most 64.", code="invalid_name", param=f"{param}name"
        )
    if label and not re.fullmatch(LABEL_PATTERN, label, re.ASCII):
        raise InvalidInput(
            "A label has small letters, digits and _ -, at most 64, and begins with a letter; a number is a `version`.",
            code="invalid_label",
            param=f"{param}label",
        )


def resolve(*, owner_id: UUID, references: list[str], most: int = MOST_REFERENCES) -> Tree:
    """What references stand for now, and all that those include, in one statement. What does not exist is left out.

    `TemplateError` if that is more than `most`.
    """
    values: dict[str, Any] = {
        "owner": owner_id,
        "references": references,
        # One level more than allowed shows that there is one.
        "depth": MOST_DEPTH + 2,
        "most": most + 1,
    }
    with connection.cursor() as cursor:
        cursor.execute(RESOLVE, values)
        rows = cursor.fetchall()
    if len(rows) > most:
        raise TemplateError(f"All includes together are more than {most}.", code="too_many_includes", param="content")
    tree: Tree = {}
    for parent, reference, *found in rows:
        known = tree.get((parent, reference))
        row = Found(*found)
        # On a cycle the same is met again, deeper each time.
        if known is None or known.depth < row.depth:
            tree[parent, reference] = row
    return tree


def branches(tree: Tree) -> dict[UUID | None, Tree]:
    """What each version includes by itself."""
    below: dict[UUID | None, Tree] = {}
    for (parent, reference), found in tree.items():
        below.setdefault(parent, {})[parent, reference] = found
    return below


def tree_of(reference: str, below: Mapping[UUID | None, Tree]) -> Tree:
    """What belongs to one of several references that were resolved together, as if it had been resolved alone.

    Nothing if it stands for nothing.
    """
    level = {key: found for key, found in below.get(None, {}).items() if key[1] == reference}
    tree: Tree = {}
    # A cycle is followed until it is too deep.
    for depth in range(1, MOST_DEPTH + 3):
        tree |= {key: replace(found, depth=depth) for key, found in level.items()}
        versions = {found.version_id for found in level.values()}
        level = {key: found for version in versions for key, found in below.get(version, {}).items()}
    return tree


def check_tree(tree: Tree, *, above: int = 0) -> None:
    """`TemplateError` if something includes itself, or includes are nested too deep.

    `above` is how many levels there are that the tree does not show.
    """
    # A cycle is followed until it is too deep, so what is not too deep has none.
    if all(found.depth + above <= MOST_DEPTH + 1 for found in tree.values()):
        return
    graph: dict[UUID, set[UUID]] = {}
    for (parent, _reference), found in tree.items():
        if parent is not None:
            graph.setdefault(parent, set()).add(found.version_id)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError:
        raise TemplateError("What is included includes itself.", code="include_cycle", param="content") from None
    raise TemplateError(f"Includes are nested more than {MOST_DEPTH} deep.", code="include_too_deep", param="content")


def bodies_of(version_ids: set[UUID]) -> dict[UUID, Body]:
    """The parsed versions, of which those that this process does not know are read in one statement."""
    bodies = {version_id: body for version_id in version_ids if (body := _kept.get(version_id))}
    missing = version_ids - bodies.keys()
    if missing:
        for version in PromptVersion.objects.filter(pk__in=missing).only("content", "variables"):
            bodies[version.pk] = body = parsed(version.content, stored(version.variables))
            if _characters(version.content) <= MOST_KEPT_CHARACTERS:
                if len(_kept) >= MOST_KEPT:
                    _kept.clear()
                _kept[version.pk] = body
    return bodies


def parsed(content: Any, variables: tuple[Variable, ...]) -> Body:
    """The parsed form of a content whose shape was checked. Raises `TemplateError` on its markup."""
    if isinstance(content, str):
        return Body(("",), (parse(content),), variables)
    texts = tuple(parse(message["content"], param=f"content.{n}.content") for n, message in enumerate(content))
    return Body(tuple(message["role"] for message in content), texts, variables)


def fill(pieces: tuple[Piece, ...], variables: tuple[Variable, ...], given: Mapping[str, Any], *, param: str) -> str:
    """One text without includes, with values in it. `param` is the field that errors name. Raises `TemplateError`."""
    texts = _values({variable.name: variable for variable in variables}, given, param)
    return _Writer({}, {}, texts).text(NOTHING_INCLUDED, pieces)


def forget_versions() -> None:
    _kept.clear()


def _characters(content: Any) -> int:
    return len(content) if isinstance(content, str) else sum(len(message["content"]) for message in content)


def _declarations(tree: Tree, bodies: dict[UUID, Body]) -> dict[str, Variable]:
    return declarations(tree, {version_id: body.variables for version_id, body in bodies.items()})


def declarations(tree: Tree, of_versions: Mapping[UUID, tuple[Variable, ...]]) -> dict[str, Variable]:
    """The variables of all versions together; where two declare the same one, the outer declaration counts."""
    variables: dict[str, Variable] = {}
    for found in sorted(tree.values(), key=lambda found: (found.depth, found.name, found.number)):
        for variable in of_versions[found.version_id]:
            variables.setdefault(variable.name, variable)
    return variables


def _values(
    variables: dict[str, Variable], given: Mapping[str, Any], param: str, *, gaps: bool = False
) -> dict[str, str]:
    """The text that stands for each variable. Raises `TemplateError`."""
    for name in given:
        if name not in variables:
            raise TemplateError(
                f"The template has no variable {name[:60]}.", code="unknown_variable", param=f"{param}.{name[:60]}"
            )
    texts = {}
    for name, variable in variables.items():
        value = given.get(name)
        if value is None:
            value = variable.default
        if value is not None:
            texts[name] = variable.text(value, param=f"{param}.{name}")
        elif gaps and variable.required:
            texts[name] = f"{{{{ {name} }}}}"
        elif variable.required:
            raise TemplateError(f"{name} must have a value.", code="missing_variable", param=f"{param}.{name}")
        else:
            texts[name] = ""
    return texts


@dataclass(slots=True)
class _Writer:
    """Puts texts together. What is included several times is put together once."""

    tree: Tree
    bodies: dict[UUID, Body]
    values: dict[str, str]
    written: dict[UUID, str] = field(default_factory=dict)

    def text(self, version_id: UUID | None, pieces: tuple[Piece, ...]) -> str:
        parts, length = [], 0
        for piece in pieces:
            part = piece if isinstance(piece, str) else self._part(version_id, piece)
            length += len(part)
            if length > MOST_BYTES:
                raise _too_large()
            parts.append(part)
        return "".join(parts)

    def _part(self, version_id: UUID | None, piece: Value | Include) -> str:
        if isinstance(piece, Value):
            return self.values[piece.name]
        found = self.tree.get((version_id, piece.reference))
        if found is None:
            raise TemplateError(
                f"There is nothing to include as {piece.reference}.",
                code="unknown_include",
                param="content",
            )
        return self._included(found)

    def _included(self, found: Found) -> str:
        if found.version_id not in self.written:
            body = self.bodies[found.version_id]
            if not body.is_text:
                raise not_a_text(found)
            self.written[found.version_id] = self.text(found.version_id, body.texts[0])
        return self.written[found.version_id]


def not_a_text(found: Found, param: str = "content") -> TemplateError:
    return TemplateError(
        f"{found.name} ({found.number}) is a list of messages: only a text can be included.",
        code="include_not_text",
        param=param,
    )


def _too_large() -> TemplateError:
    return TemplateError(f"The result is larger than {MOST_BYTES} bytes.", code="too_large", param="content")


def _missing(owner_id: UUID, name: str, target: str, param: str) -> TemplateNotFound | LabelNotFound | VersionNotFound:
    if not PromptTemplate.objects.visible_to(owner_id).filter(name=name).exists():
        return TemplateNotFound(param=f"{param}name")
    if target.isdecimal():
        return VersionNotFound(f"{name} has no version {target}.", param=f"{param}version")
    return LabelNotFound(f"{name} has no label {target}.", param=f"{param}label")
