"""What the playground tries: a template, and for one or two sides a version and a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django import forms
from django.http import QueryDict
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from accounts.admin.base import as_uuid
from accounts.exceptions import DomainError, InvalidInput
from inference.models import Model
from prompts.admin.values import PREFIX
from prompts.exceptions import TemplateNotFound
from prompts.models import PromptTemplate
from prompts.models.templates import DEFAULT_LABEL
from prompts.rendering import variables_of
from prompts.variables import Variable
from quotas.meters import Resource

SIDES = ("a", "b")
MOST_OFFERED = 200
MOST_VERSIONS = 50

# Fields as they were typed, by name.
Typed = dict[str, str]


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


def typed_fields(query: QueryDict) -> Typed:
    """What a form or an address says. No name of ours holds NUL; values of variables are checked as they are read."""
    return {
        name: str(value) if name.startswith(f"{PREFIX}-") else str(value).replace("\0", "")
        for name, value in query.items()
    }


def limits_of(typed: Typed) -> dict[str, Any]:
    form = LimitsForm(typed)
    if not form.is_valid():
        name, errors = next(iter(form.errors.items()))
        raise InvalidInput(str(errors[0]), param=name)
    return {name: value for name, value in form.cleaned_data.items() if value is not None}


def choice_of(typed: Typed, models: list[str]) -> Choice | None:
    """What is named, with the usual where nothing is; None without a template."""
    pk = as_uuid(typed.get("template", ""))
    template = PromptTemplate.objects.alive().select_related("user").filter(pk=pk).first() if pk else None
    if template is None:
        return None
    usual = _usual_targets(template)
    model = models[0] if models else ""
    return Choice(
        template=template,
        targets={side: (typed.get(f"target_{side}") or usual[side])[:64] for side in SIDES},
        models={side: typed.get(f"model_{side}") or model for side in SIDES},
        compares=bool(typed.get("compare")),
    )


def required_choice(typed: Typed) -> Choice:
    choice = choice_of(typed, offered_models())
    if choice is None:
        raise TemplateNotFound(param="template")
    return choice


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


def offered_models() -> list[str]:
    usable = Model.objects.usable().select_related(None).filter(kind=Resource.LLM)
    return list(usable.order_by("name").values_list("name", flat=True).distinct())
