"""What a change of a template does to the templates that include it, directly or through others."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import CharField, F, Func

from accounts.exceptions import Conflict
from prompts.exceptions import TemplateError
from prompts.models import PromptTemplate, PromptVersion
from prompts.rendering import MOST_REFERENCES, Tree, branches, check_tree, declarations, not_a_text, resolve, tree_of
from prompts.variables import stored

# How many labels are looked at, and how many references they may have in all.
MOST_LABELS = 1000
MOST_ROWS = 100_000
SHOWN = 3

# Upwards from a name, over what any version of the owner's templates includes.
INCLUDERS = """
WITH RECURSIVE edges AS MATERIALIZED (
    SELECT DISTINCT split_part(i.reference, '@', 1) AS name, t.id AS template_id, t.name::text AS above
    FROM prompts_prompttemplate t
    JOIN prompts_promptversion v ON v.template_id = t.id
    CROSS JOIN LATERAL unnest(v.includes) AS i(reference)
    WHERE t.user_id = %(owner)s AND t.deleted_at IS NULL
), reached AS (
    SELECT template_id, above FROM edges WHERE name = %(name)s
  UNION
    SELECT e.template_id, e.above FROM reached r JOIN edges e ON e.name = r.above
)
SELECT r.above, l.name FROM reached r JOIN prompts_promptlabel l ON l.template_id = r.template_id
ORDER BY r.above, l.name LIMIT %(most)s
"""


@dataclass(frozen=True, slots=True)
class State:
    """Why something cannot be rendered (nothing: it can), and the values without which it is not."""

    trouble: str = ""
    required: frozenset[str] = frozenset()


@contextmanager
def keeping_includers(template: PromptTemplate, *, but: Collection[str] = ()) -> Iterator[None]:
    """A change of a template, in a transaction that has locked it.

    `Conflict` if a labelled version of its owner's, `but` for these labels of its own, could be rendered before it and
    cannot any more, or would want another value. Other users who include a shared template follow its owner.
    """
    references = _labelled(template, but)
    before = _states(template.user_id, references)
    yield
    after = _states(template.user_id, references)
    broken = [reference for reference in references if _worse(before[reference], after[reference])]
    if broken:
        first = broken[0]
        named = ", ".join(broken[:SHOWN]) + (f" and {len(broken) - SHOWN} more" if broken[SHOWN:] else "")
        raise Conflict(
            f"That would break {named}, by what is included there. {_worse(before[first], after[first])}",
            code="template_in_use",
        )


def _labelled(template: PromptTemplate, but: Collection[str]) -> list[str]:
    """`name@label` of what includes the template now, or could through the version of another."""
    with connection.cursor() as cursor:
        cursor.execute(INCLUDERS, {"owner": template.user_id, "name": template.name, "most": MOST_LABELS})
        rows = cursor.fetchall()
    return [f"{name}@{label}" for name, label in rows if name != template.name or label not in but]


def _worse(before: State, after: State) -> str:
    if before.trouble:
        return ""
    if after.trouble:
        return after.trouble
    added = sorted(after.required - before.required)
    return f"It would need a value for {', '.join(added)}." if added else ""


def _states(owner_id: UUID, references: list[str]) -> dict[str, State]:
    if not references:
        return {}
    tree = resolve(owner_id=owner_id, references=references, most=MOST_ROWS)
    rows = PromptVersion.objects.filter(pk__in={found.version_id for found in tree.values()})
    # Not the contents, which may be large: what they include is known.
    kinds = rows.annotate(kind=Func(F("content"), function="jsonb_typeof", output_field=CharField()))
    versions = {row["pk"]: row for row in kinds.values("pk", "kind", "includes", "variables")}
    below = branches(tree)
    return {reference: _state(reference, tree_of(reference, below), versions) for reference in references}


def _state(reference: str, tree: Tree, versions: Mapping[UUID, Mapping[str, Any]]) -> State:
    try:
        check_tree(tree)
    except TemplateError as refusal:
        return State(str(refusal))
    if len(tree) > MOST_REFERENCES:
        return State(f"All includes together would be more than {MOST_REFERENCES}.")
    wanted = {(None, reference), *((pk, name) for pk in _pks(tree) for name in versions[pk]["includes"])}
    if missing := sorted(name for _parent, name in wanted - tree.keys()):
        return State(f"There is nothing to include as {missing[0]}.")
    for (parent, _name), found in tree.items():
        if parent is not None and versions[found.version_id]["kind"] != "string":
            return State(str(not_a_text(found)))
    variables = declarations(tree, {pk: stored(versions[pk]["variables"]) for pk in _pks(tree)})
    return State(required=frozenset(name for name, variable in variables.items() if variable.required))


def _pks(tree: Tree) -> set[UUID]:
    return {found.version_id for found in tree.values()}
