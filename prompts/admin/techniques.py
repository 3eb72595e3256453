"""Techniques: written and changed by operators, each change of what they add being a version."""

from __future__ import annotations

import json
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse, QueryDict
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import BooleanRadioFilter, DropdownFilter
from unfold.decorators import display
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminURLInputWidget

from accounts.admin.base import OperatorAdmin, operator
from accounts.admin.display import EMPTY
from accounts.models import User
from prompts import techniques
from prompts.diffs import compare
from prompts.exceptions import TemplateError
from prompts.models import PromptVersion, Technique, TechniqueVersion
from quotas.admin.display import moment

KINDS = {"+": "added", "-": "removed", "@": "place"}
MOST_VERSIONS = 50
TEMPLATE_HELP = (
    "{{ prompt }} stands for the text that is improved, {{ name }} for a parameter. There is nothing else: no code, no "
    "conditions. Saving another text makes a new version, which the next prompt gets."
)
PARAMETERS_HELP = (
    'A list such as [{"name": "role", "default": "an expert", "description": "Whom the model speaks as."}]. Types are '
    "string, number, integer, boolean, enum (with choices) and list."
)


class DeclarationsField(forms.JSONField):
    def prepare_value(self, value: Any) -> Any:
        """One declaration a line."""
        if not isinstance(value, list):
            return super().prepare_value(value)
        lines = ",\n".join(f"  {json.dumps(row, ensure_ascii=False)}" for row in value)
        return f"[\n{lines}\n]" if value else "[]"


class TechniqueForm(forms.ModelForm):  # type: ignore[type-arg]
    template = forms.CharField(
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 16}),
        max_length=techniques.MOST_CHARACTERS,
        strip=False,
        help_text=TEMPLATE_HELP,
    )
    # Django's own field still takes addresses without a scheme for http, and warns that it will not.
    source_url = forms.URLField(
        label="Source URL", max_length=500, required=False, assume_scheme="https", widget=UnfoldAdminURLInputWidget
    )
    parameters = DeclarationsField(
        required=False, widget=UnfoldAdminTextareaWidget(attrs={"rows": 5}), help_text=PARAMETERS_HELP
    )

    # The version that somebody was shown, and that is changed.
    seen_version = forms.IntegerField(required=False, widget=forms.HiddenInput)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["seen_version"] = self.instance.latest_version
        if self.instance.latest_version:
            latest = self.instance.versions.get(number=self.instance.latest_version)
            self.initial.update(template=latest.template, parameters=latest.parameters)

    def clean_template(self) -> str:
        """As browsers send lines, and as everybody else writes them."""
        template: str = self.cleaned_data["template"]
        return template.replace("\r\n", "\n").strip()

    def clean(self) -> None:
        super().clean()
        seen = self.cleaned_data.get("seen_version")
        if self.instance.latest_version and seen not in {None, self.instance.latest_version}:
            raise ValidationError(str(techniques.changed_meanwhile(self.instance.latest_version)))
        if "template" not in self.cleaned_data or "parameters" not in self.cleaned_data:
            return
        try:
            techniques.checked(self.cleaned_data["template"], self.cleaned_data["parameters"])
        except TemplateError as refusal:
            field = "template" if refusal.param == "template" else "parameters"
            raise ValidationError({field: str(refusal)}) from None


class GroupFilter(DropdownFilter):
    title = "group"
    parameter_name = "group"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        groups = Technique.objects.exclude(group="").order_by("group").values_list("group", flat=True).distinct()
        return [(group, group) for group in groups]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Technique]) -> QuerySet[Technique]:
        return queryset.filter(group=self.value()) if self.value() else queryset


@admin.register(Technique)
class TechniqueAdmin(OperatorAdmin):
    purpose = (
        "Ways to ask a model better. For each prompt, those are chosen that have worked for its intent, and each puts "
        "its text around what those before it have made. One that is not wanted any more is switched off: the history "
        "names it for good."
    )
    form = TechniqueForm
    list_display = ("shown_title", "group", "position", "shown_version", "source", "is_active", "updated_at")
    list_filter = (GroupFilter, ("is_active", BooleanRadioFilter))
    list_filter_submit = True
    search_fields = ("slug", "title", "description")
    search_help_text = "Name, title or description"
    ordering = ("position", "slug")
    readonly_fields = ("shown_version", "row_id", "created_at", "updated_at")
    change_form_outer_after_template = "admin/prompts/technique/versions.html"
    fieldsets = (
        (None, {"fields": (("title", "slug"), "description", "when_it_helps", "source_title", "source_url")}),
        ("What it adds", {"fields": ("template", "parameters", "seen_version")}),
        ("When it is chosen", {"fields": (("group", "position"), "is_active")}),
    )

    def get_fieldsets(self, request: HttpRequest, obj: Technique | None = None) -> Any:
        record = ("Record", {"fields": (("shown_version", "row_id"), ("created_at", "updated_at"))})
        return self.fieldsets if obj is None else (*self.fieldsets, record)

    def get_readonly_fields(self, request: HttpRequest, obj: Technique | None = None) -> tuple[str, ...]:
        """Callers write the name, and so does the history."""
        return self.readonly_fields if obj is None else ("slug", *self.readonly_fields)

    @display(description="technique", header=True, ordering="title")
    def shown_title(self, technique: Technique) -> list[str]:
        return [technique.title, technique.slug]

    @display(description="version", ordering="latest_version")
    def shown_version(self, technique: Technique) -> str:
        return str(technique.latest_version)

    @display(description="source")
    def source(self, technique: Technique) -> SafeString | str:
        if not technique.source_url:
            return technique.source_title or EMPTY
        return format_html(
            '<a class="text-link" href="{}" rel="noreferrer noopener" target="_blank">{}</a>',
            technique.source_url,
            technique.source_title or technique.source_url,
        )

    def has_delete_permission(self, request: HttpRequest, obj: Technique | None = None) -> bool:
        return False

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        found = self.get_object(request, object_id)
        context = {**(versions_context(found, request.GET) if found else {}), **(extra_context or {})}
        answer: HttpResponse = super().change_view(request, object_id, form_url, context)
        return answer

    # Writing

    def save_model(self, request: HttpRequest, obj: Technique, form: ModelForm[Technique], change: bool) -> None:
        said = {name: value for name, value in form.cleaned_data.items() if name not in self.readonly_fields}
        said["parameters"] = said["parameters"] or []
        seen = said.pop("seen_version")
        if change:
            techniques.change_technique(technique_id=obj.pk, by=operator(request), seen_version=seen, **said)
        else:
            obj.pk = techniques.add_technique(by=operator(request), **said).pk

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """The service has written all there is, and its audit event."""


# Versions ------------------------------------------------------------------------------------------------------------


def versions_context(technique: Technique, query: QueryDict) -> dict[str, Any]:
    """All versions, and what has changed between two; `query` may name them, `from` and `to`."""
    versions = list(technique.versions.order_by("-number")[:MOST_VERSIONS])
    numbers = [version.number for version in versions]
    new = _chosen(versions, query.get("to"), numbers[0])
    old = _chosen(versions, query.get("from"), max(1, new.number - 1))
    authors = User.objects.in_bulk({version.author_id for version in versions if version.author_id})
    rows = [
        [_link(version.number), moment(version.created_at), _author(version, authors), len(version.template)]
        for version in versions
    ]
    return {
        "versions": {"headers": ["Version", "Made", "By", "Characters"], "rows": rows},
        "numbers": numbers,
        "old": old.number,
        "new": new.number,
        **_changes(old, new),
    }


def _chosen(versions: list[TechniqueVersion], wanted: str | None, otherwise: int) -> TechniqueVersion:
    by_number = {str(version.number): version for version in versions}
    return by_number.get(wanted or "") or by_number.get(str(otherwise)) or versions[-1]


def _link(number: int) -> SafeString:
    return format_html(
        '<a class="text-link" href="?from={}&amp;to={}#changes">{}</a>', max(1, number - 1), number, number
    )


def _author(version: TechniqueVersion, authors: dict[Any, User]) -> str:
    if version.author_id is None:
        return "starter set"
    return str(authors.get(version.author_id, EMPTY))


def _changes(old: TechniqueVersion, new: TechniqueVersion) -> dict[str, Any]:
    """As of a prompt template; of one version alone, its text."""
    before, after = (
        PromptVersion(number=version.number, content=version.template, variables=version.parameters)
        for version in (old, new)
    )
    try:
        unified = compare(before, after).unified.split("\n")
    except TemplateError as refusal:
        return {"changes": [], "note": str(refusal)}
    lines = [(KINDS.get(line[:1], "same"), line) for line in unified[2:]]
    return {"changes": lines, "note": "" if lines else "There is nothing to compare yet."}
