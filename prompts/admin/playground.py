"""The playground: a template rendered and run on real models, one version or two side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django import forms
from django.core.exceptions import PermissionDenied
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseNotAllowed,
    JsonResponse,
    QueryDict,
    StreamingHttpResponse,
)
from django.http.response import HttpResponseBase
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from accounts.admin.base import HistoryAdmin, as_uuid, operator
from accounts.exceptions import DomainError, InvalidInput
from inference.exchange import begin
from inference.models import Model, Request
from inference.replies import STREAM_HEADERS
from prompts import playground
from prompts.admin.figures import figure_rows
from prompts.admin.template_page import changes_between
from prompts.admin.values import VariablesForm, given_values
from prompts.exceptions import TemplateNotFound
from prompts.models import PromptTemplate, PromptVersion
from prompts.models.templates import DEFAULT_LABEL
from prompts.playground import RUNNING, Run
from prompts.rendering import Rendering, variables_of
from prompts.variables import Variable
from quotas.meters import Resource
from quotas.throttling import admit
from quotas.windows import RouteClass

SIDES = ("a", "b")
MOST_OFFERED = 200
MOST_VERSIONS = 50
# Names the row of a run's request in the answer to it.
REQUEST_HEADER = "X-Inference-Request"
PAGES = "admin/prompts/prompttemplate/playground"


@dataclass(frozen=True, slots=True)
class Choice:
    """What is tried: a template, and for each side a label or number, and a model."""

    template: PromptTemplate
    targets: dict[str, str]
    models: dict[str, str]
    compares: bool

    @property
    def sides(self) -> tuple[str, ...]:
        return SIDES if self.compares else SIDES[:1]

    def variables(self, side: str) -> tuple[Variable, ...]:
        template = self.template
        return variables_of(owner_id=template.user_id, name=template.name, target=self.targets[side])

    def all_variables(self) -> list[Variable]:
        """Those of all sides, once each; what cannot be found has none, and the preview says so."""
        variables: dict[str, Variable] = {}
        for side in self.sides:
            try:
                found = self.variables(side)
            except DomainError:
                continue
            variables = {variable.name: variable for variable in found} | variables
        return list(variables.values())


class LimitsForm(forms.Form):
    temperature = forms.FloatField(
        required=False,
        min_value=0,
        max_value=2,
        widget=UnfoldAdminTextInputWidget(
            attrs={"inputmode": "decimal", "placeholder": "the model's", "autocomplete": "off"}
        ),
    )
    max_tokens = forms.IntegerField(
        label="Max tokens",
        required=False,
        min_value=1,
        max_value=10_000_000,
        widget=UnfoldAdminIntegerFieldWidget(attrs={"placeholder": "the model's"}),
    )


class ChoiceForm(forms.Form):
    """The selects of the page. What was chosen is read from the query, whatever they offer."""

    def __init__(self, choice: Choice | None, models: list[str]) -> None:
        super().__init__()
        if choice is None:
            self.fields["template"] = _select("Template", "", [("", "Choose one"), *_offered(None)])
            return
        template = choice.template
        self.fields["template"] = _select("Template", str(template.pk), _offered(template))
        self.fields["compare"] = forms.BooleanField(
            label="Compare two", required=False, initial=choice.compares, widget=UnfoldBooleanSwitchWidget
        )
        for side in SIDES:
            self.fields[f"target_{side}"] = _select("Version", choice.targets[side], _targets(template))
            named = [(name, name) for name in models]
            self.fields[f"model_{side}"] = _select("Model", choice.models[side], named)


def _select(label: str, chosen: str, options: list[tuple[str, str]]) -> forms.ChoiceField:
    """Also what is chosen although it is none of the options."""
    if all(chosen != value for value, _shown in options):
        options = [(chosen, chosen), *options]
    return forms.ChoiceField(
        label=label, required=False, initial=chosen, choices=options, widget=UnfoldAdminSelectWidget
    )


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
        models = _models()
        choice = _choice(request.GET, models)
        context = {
            **self.admin_site.each_context(request),
            "title": "Playground",
            "choice": choice,
            "form": ChoiceForm(choice, models),
            "limits": LimitsForm(),
            "has_models": bool(models),
            **(_previewed(choice, request.GET) if choice else {}),
        }
        return TemplateResponse(request, f"{PAGES}.html", context)

    def preview(self, request: HttpRequest) -> HttpResponse:
        """The parts of the page that follow from what is chosen and typed, as HTML."""
        self._check(request)
        choice = _choice(request.POST, _models())
        if choice is None:
            raise TemplateNotFound(param="template")
        shown = _previewed(choice, request.POST)
        parts = {
            "fields": render_to_string(f"{PAGES}_fields.html", shown),
            "changes": render_to_string(f"{PAGES}_changes.html", shown),
            "errors": shown["errors"],
            **{f"prompt-{part['side']}": render_to_string(f"{PAGES}_prompt.html", part) for part in shown["prompts"]},
        }
        return JsonResponse(parts)

    async def run(self, request: HttpRequest) -> HttpResponseBase:
        """The answer of one side as a chat call streams it. What is refused or fails has the API's error shape."""
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
        """In a thread: `admin_view`, which lets operators in elsewhere, knows no asynchronous views."""
        if not self.admin_site.has_permission(request):
            raise PermissionDenied
        self._check(request)
        by = operator(request)
        admit(request, by, RouteClass.INFERENCE)
        side = "b" if request.POST.get("side") == "b" else "a"
        choice = _choice(request.POST, _models())
        if choice is None:
            raise TemplateNotFound(param="template")
        return playground.open_run(
            by=by,
            template=choice.template,
            target=choice.targets[side],
            variables=given_values(choice.variables(side), _typed(request.POST)),
            model=choice.models[side],
            **_limits(request.POST),
        )


def _typed(query: QueryDict) -> dict[str, str]:
    return {name: str(value) for name, value in query.items()}


def _limits(posted: QueryDict) -> dict[str, Any]:
    form = LimitsForm(posted)
    if not form.is_valid():
        name, errors = next(iter(form.errors.items()))
        raise InvalidInput(str(errors[0]), param=name)
    return {name: value for name, value in form.cleaned_data.items() if value is not None}


# What is chosen ------------------------------------------------------------------------------------------------------


def _choice(query: QueryDict, models: list[str]) -> Choice | None:
    """What a query names, with the usual where it names nothing; None without a template."""
    pk = as_uuid(query.get("template", ""))
    template = PromptTemplate.objects.alive().select_related("user").filter(pk=pk).first() if pk else None
    if template is None:
        return None
    usual = _usual_targets(template)
    model = models[0] if models else ""
    return Choice(
        template=template,
        targets={side: (query.get(f"target_{side}") or usual[side])[:64] for side in SIDES},
        models={side: query.get(f"model_{side}") or model for side in SIDES},
        compares=bool(query.get("compare")),
    )


def _usual_targets(template: PromptTemplate) -> dict[str, str]:
    """What is live, and what might be next: the last version, or the one before where that is live."""
    latest = template.latest_version
    live = template.labels.filter(name=DEFAULT_LABEL).values_list("version__number", flat=True).first()
    if live is None:
        return {"a": str(max(1, latest - 1)), "b": str(latest)} if latest > 1 else {"a": "1", "b": "1"}
    return {"a": DEFAULT_LABEL, "b": str(latest if live != latest else max(1, latest - 1))}


def _offered(chosen: PromptTemplate | None) -> list[tuple[str, str]]:
    """Those that were changed last, each with its owner, since two may have the same name."""
    among = PromptTemplate.objects.alive().filter(latest_version__gt=0).select_related("user")
    recent = list(among.order_by("-updated_at")[:MOST_OFFERED])
    if chosen is not None and chosen not in recent:
        recent.append(chosen)
    named = ((str(row.pk), f"{row.name} · {row.user}") for row in recent)
    return sorted(named, key=lambda option: option[1])


def _targets(template: PromptTemplate) -> list[tuple[str, str]]:
    labels = template.labels.with_numbers().order_by("name")
    versions = template.versions.order_by("-number").values_list("number", "commit_message")[:MOST_VERSIONS]
    return [
        *((row.name, f"{row.name} · version {row.version.number}") for row in labels),
        *((str(number), f"Version {number}{f' · {said[:40]}' if said else ''}") for number, said in versions),
    ]


def _models() -> list[str]:
    usable = Model.objects.usable().select_related(None).filter(kind=Resource.LLM)
    return list(usable.order_by("name").values_list("name", flat=True).distinct())


# What it says --------------------------------------------------------------------------------------------------------


def _previewed(choice: Choice, query: QueryDict) -> dict[str, Any]:
    typed = _typed(query)
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
