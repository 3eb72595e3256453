"""What templates can be given, for many of them in two statements."""

from __future__ import annotations

from uuid import UUID

from prompts.exceptions import TemplateError
from prompts.models import PromptVersion
from prompts.rendering import branches, check_tree, declarations, resolve, tree_of
from prompts.variables import Variable, stored

Signatures = dict[str, tuple[Variable, ...]]


def signatures(*, owner_id: UUID, references: list[str]) -> Signatures:
    """The variables of each reference (`name@label`), and of all that it includes.

    What does not exist, or cannot be rendered because it includes itself or too much, is left out.
    """
    try:
        return _signatures(owner_id, references)
    except TemplateError:
        if len(references) == 1:
            return {}
    # One that cannot be rendered hides none of the others.
    found: Signatures = {}
    for reference in references:
        found |= signatures(owner_id=owner_id, references=[reference])
    return found


def _signatures(owner_id: UUID, references: list[str]) -> Signatures:
    tree = resolve(owner_id=owner_id, references=references)
    check_tree(tree)
    versions = PromptVersion.objects.filter(pk__in={found.version_id for found in tree.values()})
    variables = {pk: stored(rows) for pk, rows in versions.values_list("pk", "variables")}
    below = branches(tree)
    return {
        reference: tuple(declarations(tree_of(reference, below), variables).values())
        for parent, reference in tree
        if parent is None
    }
