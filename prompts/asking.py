"""What a caller asks to be rendered: by which label or version, with which values, and whose templates are meant.

Chat calls and `render` read it in this one way, by hand: a chat call is the hot path.
"""

from __future__ import annotations

from typing import Any

from accounts.caller import Caller
from accounts.exceptions import InvalidInput
from prompts.rendering import MOST_VERSION, Rendering, render

FIELDS = {"label", "version", "variables"}


def render_asked(*, caller: Caller, name: str, asked: dict[str, Any], param: str = "") -> Rendering:
    """Render a template as `asked`: `label` or `version`, and `variables`; null is the same as nothing.

    A program that acts for somebody uses its owner's templates: nobody puts something of their own under its names.
    `param` stands before the fields that errors name. Raises `InvalidInput` and what `render` raises.
    """
    if unknown := sorted(set(asked) - FIELDS):
        shown = unknown[0][:60]
        raise InvalidInput(f"There is no field {shown} here.", param=f"{param}{shown}", code="unknown_field")
    label, version, variables = asked.get("label"), asked.get("version"), asked.get("variables")
    if label is not None and not isinstance(label, str):
        raise InvalidInput("A label is a text.", param=f"{param}label", code="invalid_type")
    if version is not None and (type(version) is not int or not 0 < version < MOST_VERSION):
        raise InvalidInput("A version is a whole number from 1.", param=f"{param}version", code="invalid_type")
    if label and version is not None:
        raise InvalidInput("Name a label or a version, not both.", param=f"{param}version")
    if variables is not None and not isinstance(variables, dict):
        raise InvalidInput("`variables` must be an object.", param=f"{param}variables", code="invalid_type")
    return render(
        owner_id=caller.acted_by or caller.user_id,
        name=name,
        label=label or "",
        version=version,
        variables=variables or {},
        param=param,
    )
