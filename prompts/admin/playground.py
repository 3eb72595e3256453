"""The playground: a template rendered and run on real models, one version or two side by side."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from accounts.admin.base import HistoryAdmin, as_uuid, operator
from accounts.exceptions import DomainError
from inference.background import in_thread
from inference.exchange import begin
from inference.models import Request
from inference.replies import STREAM_HEADERS
from prompts import playground
from prompts.admin.choices import (
    SIDES,
    Choice,
    ChoiceForm,
    LimitsForm,
    Typed,
    choice_of,
    limits_of,
    offered_models,
    required_choice,
    typed_fields,
)
from prompts.admin.figures import figure_rows
from prompts.admin.template_page import changes_between
from prompts.admin.values import VariablesForm, given_values
from prompts.models import PromptTemplate, PromptVersion
from prompts.playground import RUNNING, Run
from prompts.rendering import Rendering
from quotas.throttling import admit
from quotas.windows import RouteClass

# Names the row of a run's request in the answer to it.
REQUEST_HEADER = "X-Inference-Request"
PAGES = "admin/prompts/prompttemplate/playground"


class PlaygroundAdmin(HistoryAdmin):
    """The pages of the playground, below those of the templates."""

    def get_urls(self) -> list[URLPattern]:
        view, name = self.admin_site.admin_view, "prompts_prompttemplate_playground"
        return [
            path("playground/", view(self.playground), name=name),
            path("playground/preview/", view(self.preview), name=f"{name}_preview"),
            path("playground/run/", self.run, name=f"{name}_run"),
            path("playground/figures/", view(self.figures), name=f"{name}_figures"),
            *super().get_urls(),
        ]

    def has_run_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Who may run templates sees what they say. `obj` is an id: a deleted template is not run any more."""
        if not (request.user.has_perm(RUNNING) and self.has_view_permission(request)):
            return False
        return obj is None or PromptTemplate.objects.alive().filter(pk=obj).exists()

    def playground(self, request: HttpRequest) -> HttpResponse:
        self._check(request)
        models = offered_models()
        typed = typed_fields(request.GET)
        choice = choice_of(typed, models)
        context = {
            **self.admin_site.each_context(request),
            "title": "Playground",
            "choice": choice,
            "form": ChoiceForm(choice, models),
            "limits": LimitsForm(),
            "has_models": bool(models),
            **(_previewed(choice, typed) if choice else {}),
        }
        return TemplateResponse(request, f"{PAGES}.html", context)

    def preview(self, request: HttpRequest) -> HttpResponse:
        """The parts of the page that follow from what is chosen and typed, as HTML."""
        self._check(request)
        typed = typed_fields(request.POST)
        shown = _previewed(required_choice(typed), typed)
        parts = {
            "fields": render_to_string(f"{PAGES}_fields.html", shown),
            "changes": render_to_string(f"{PAGES}_changes.html", shown),
            "errors": shown["errors"],
            **{f"prompt-{part['side']}": render_to_string(f"{PAGES}_prompt.html", part) for part in shown["prompts"]},
        }
        return JsonResponse(parts)

    async def run(self, request: HttpRequest) -> HttpResponseBase:
        """The answer of one side as a chat call streams it. What is refused or fails has the API's error shape.

        Who is no operator is sent to the login here: `admin_view`, which does so elsewhere, knows no async views.
        """
        if not await in_thread(lambda: self.admin_site.has_permission(request)):
            return redirect_to_login(request.get_full_path(), reverse("admin:login"))
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        exchange = await begin(lambda: self._open_run(request))
        await exchange.start()
        headers = STREAM_HEADERS | {REQUEST_HEADER: str(exchange.call.request_id)}
        return StreamingHttpResponse(exchange, headers=headers)

    def figures(self, request: HttpRequest) -> HttpResponse:
        """What the operator's own runs have come to, side by side."""
        self._check(request)
        ids = {side: as_uuid(request.GET.get(side, "")) for side in SIDES}
        own = Request.objects.filter(user_id=operator(request).pk).exclude(prompt_version_id=None)
        found: dict[UUID, Request] = own.defer("request_data", "response_data").in_bulk(
            [pk for pk in ids.values() if pk]
        )
        runs = [run for pk in ids.values() if pk is not None and (run := found.get(pk))]
        running = any(run.status == Request.Status.RUNNING for run in runs)
        context = {"runs": runs, "rows": figure_rows(runs), "running": running}
        return TemplateResponse(request, f"{PAGES}_figures.html", context)

    def _check(self, request: HttpRequest) -> None:
        if not self.has_run_permission(request):
            raise PermissionDenied

    def _open_run(self, request: HttpRequest) -> Run:
        self._check(request)
        by = operator(request)
        admit(request, by, RouteClass.INFERENCE)
        typed = typed_fields(request.POST)
        side = "b" if typed.get("side") == "b" else "a"
        choice = required_choice(typed)
        return playground.open_run(
            by=by,
            template=choice.template,
            target=choice.targets[side],
            variables=given_values(choice.variables(side), typed),
            model=choice.models[side],
            **limits_of(typed),
        )


def _previewed(choice: Choice, typed: Typed) -> dict[str, Any]:
    errors: dict[str, str] = {}
    prompts, renderings = [], []
    for side in choice.sides:
        shown: dict[str, Any] = {"side": side}
        try:
            values = given_values(choice.variables(side), typed)
            found = playground.rendered(
                template=choice.template, target=choice.targets[side], variables=values, gaps=True
            )
        except DomainError as refusal:
            if refusal.param and refusal.param.startswith("variables."):
                errors[refusal.param] = str(refusal)
            shown["refusal"] = refusal
        else:
            shown["rendering"] = found
            renderings.append(found)
        prompts.append(shown)
    return {
        "choice": choice,
        "fields": VariablesForm(choice.all_variables(), typed),
        "prompts": prompts,
        "errors": errors,
        **_changes(renderings),
    }


def _changes(renderings: list[Rendering]) -> dict[str, Any]:
    """What the second says that the first does not; nothing unless there are two versions."""
    ids = [rendering.version_id for rendering in renderings]
    if len(set(ids)) < len(SIDES):
        return {}
    versions = PromptVersion.objects.in_bulk(ids)
    old, new = (versions[pk] for pk in ids)
    return {"old": old.number, "new": new.number, **changes_between(old, new)}
