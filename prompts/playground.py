"""Trying a template out on a model. A run is a chat call like any other: metered, as whoever tries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from accounts import audit
from accounts.caller import Caller
from accounts.exceptions import NotAllowed
from inference import services as inference
from inference.services import Call
from prompts.models import PromptTemplate
from prompts.rendering import Rendering, render
from quotas import services as quotas
from quotas.meters import Resource

RUNNING = "prompts.run_prompttemplate"


@dataclass(frozen=True, slots=True)
class Run:
    """A streamed call with the messages of a version."""

    call: Call

    def settle(self) -> None:
        inference.settle(self.call)


def rendered(*, template: PromptTemplate, target: str, variables: Mapping[str, Any], gaps: bool = False) -> Rendering:
    """What the label or version number `target` of a template says, by its owner's templates. Raises as `render`."""
    named: dict[str, Any] = {"version": int(target)} if target.isdecimal() else {"label": target}
    return render(owner_id=template.user_id, name=template.name, **named, variables=variables, gaps=gaps)


def open_run(
    *, by: Caller, template: PromptTemplate, target: str, variables: Mapping[str, Any], **settings: Any
) -> Run:
    """Hold what the call may use on the quotas of `by`, write its request row with the version, and the audit event.

    `settings` are the other fields of a chat call, such as `model` and `temperature`. Raises `NotAllowed`, what
    `rendered` raises, and what `inference.services.open_call` raises; then nothing has been written.
    """
    if not by.has_perm(RUNNING):
        raise NotAllowed("You may not run templates.")
    rendering = rendered(template=template, target=target, variables=variables)
    payload = {**settings, "messages": rendering.messages, "stream": True}
    with quotas.holding():
        call = inference.open_call(caller=by, kind=Resource.LLM, payload=payload, prompt=rendering.used)
        audit.record(
            "prompt_template.run",
            by=by,
            target=template,
            number=rendering.number,
            model=call.model,
            request=str(call.request_id),
        )
    return Run(call)
