"""Prompt templates belong to their users. Operators read and write them, try them out, move labels, and share."""

from __future__ import annotations

from typing import Any, cast

from django import forms
from django.contrib import admin
from django.db.models import Prefetch, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html_join
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter, BooleanRadioFilter
from unfold.decorators import action, display
from unfold.forms import BaseDialogForm
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from accounts.admin.base import as_uuid
from accounts.admin.display import EMPTY, label
from prompts import templates
from prompts.admin.playground import PlaygroundAdmin
from prompts.admin.template_page import page_context
from prompts.admin.writing import WritingAdmin
from prompts.models import PromptLabel, PromptTemplate
from prompts.models.templates import DEFAULT_LABEL, LABEL_PATTERN, PromptTemplateQuerySet
from prompts.rendering import MOST_VERSION

EVERYBODY = "everybody"


class LabelDialog(BaseDialogForm):
    label = forms.RegexField(
        f"^{LABEL_PATTERN}\\Z",
        initial=DEFAULT_LABEL,
        widget=UnfoldAdminTextInputWidget,
        help_text="One that is not there is made.",
    )
    number = forms.IntegerField(
        label="Version", min_value=1, max_value=MOST_VERSION - 1, widget=UnfoldAdminIntegerFieldWidget
    )


class SharingDialog(BaseDialogForm):
    who = forms.ChoiceField(
        choices=[(EVERYBODY, "Everybody"), ("owner", "Only its owner")], widget=UnfoldAdminSelectWidget
    )


@admin.register(PromptTemplate)
class PromptTemplateAdmin(PlaygroundAdmin, WritingAdmin):
    purpose = (
        "Prompts under a name. Calls name a template and a label, such as production; a label stands for one version "
        "and moves to another without a deployment. Versions never change. Usage is counted every ten minutes."
    )
    has_history = True
    list_display = ("title", "user", "shown_labels", "latest_version", "shown_usage", "state", "updated_at")
    list_select_related = ("user",)
    list_filter = (
        ("is_shared", BooleanRadioFilter),
        ("user", AutocompleteSelectFilter),
        ("created_at", admin.DateFieldListFilter),
    )
    list_filter_submit = True
    search_fields = ("name", "description", "user__email")
    search_help_text = "Name, description, user's e-mail, or the id of a template or a version"
    ordering = ("-id",)
    actions_detail = ("try_out", "new_version", "move_label", "share")
    change_form_outer_after_template = "admin/prompts/prompttemplate/versions.html"
    fields = (
        *(("name", "user"), "description", ("shown_tags", "state"), ("shown_labels", "protected")),
        *(("shown_usage", "row_id"), ("created_at", "updated_at")),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[PromptTemplate]:
        found = cast("PromptTemplateQuerySet", super().get_queryset(request))
        return found.with_usage().prefetch_related(Prefetch("labels", PromptLabel.objects.with_numbers()))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[PromptTemplate], search_term: str
    ) -> tuple[QuerySet[PromptTemplate], bool]:
        """Requests know the version that ran in them."""
        found, may_repeat = super().get_search_results(request, queryset, search_term)
        if (wanted := as_uuid(search_term)) is not None:
            found = found | queryset.filter(pk__in=PromptTemplate.objects.filter(versions=wanted))
        return found, may_repeat

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        found = self.get_object(request, object_id)
        context = {
            "may_run": found is not None and self.has_run_permission(request, object_id),
            "may_write": found is not None and self.has_operate_permission(request, object_id),
            **(page_context(found, request.GET) if found else {}),
            **(extra_context or {}),
        }
        answer: HttpResponse = super().change_view(request, object_id, form_url, context)
        return answer

    @display(description="template", header=True, ordering="name")
    def title(self, template: PromptTemplate) -> list[str]:
        return [template.name, template.description[:100]]

    @display(description="labels")
    def shown_labels(self, template: PromptTemplate) -> SafeString | str:
        shown = ((label(f"{row.name}: {row.version.number}", "success"),) for row in template.labels.all())
        return format_html_join(" ", "{}", shown) or EMPTY

    @display(description="protected labels")
    def protected(self, template: PromptTemplate) -> str:
        return ", ".join(template.protected_labels) or EMPTY

    @display(description="tags")
    def shown_tags(self, template: PromptTemplate) -> str:
        return ", ".join(template.tags) or EMPTY

    @display(description="calls", ordering="usage_count")
    def shown_usage(self, template: PromptTemplate) -> str:
        return f"{getattr(template, 'usage_count', 0):,}"

    @display(description="who may use it", ordering="is_shared")
    def state(self, template: PromptTemplate) -> SafeString:
        if template.deleted_at:
            return label("deleted", "danger")
        return label("everybody", "info") if template.is_shared else label("its owner")

    def has_operate_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Named by the actions. `obj` is an id: with a deleted template nothing is done any more."""
        if not request.user.has_perm(templates.SHARING):
            return False
        return obj is None or PromptTemplate.objects.alive().filter(pk=obj).exists()

    @action(description="Playground", icon="experiment", permissions=["run"])
    def try_out(self, request: HttpRequest, object_id: str) -> HttpResponse:
        address = reverse("admin:prompts_prompttemplate_playground")
        return HttpResponseRedirect(f"{address}?{urlencode({'template': object_id})}")

    @action(
        description="Move a label",
        icon="label",
        permissions=["operate"],
        dialog={
            "title": "Move a label",
            "description": "The next call that names the label gets this version, in every process.",
            "form_class": LabelDialog,
            "form_submit_text": "Move",
        },
    )
    def move_label(self, request: HttpRequest, form: LabelDialog, object_id: str) -> HttpResponse:
        chosen = {name: form.cleaned_data[name] for name in ("label", "number")}
        done = f"{chosen['label']} stands for version {chosen['number']}."
        return self.carry_out(request, done, templates.move_label, template=self.find(request, object_id), **chosen)

    @action(
        description="Share",
        icon="public",
        permissions=["operate"],
        dialog={
            "title": "Who may use this template?",
            "description": "What is shared everybody can read, in all versions, and use by its name. Only its owner "
            "and operators change it. When it is shared no more, calls of others that name it are refused.",
            "form_class": SharingDialog,
            "form_submit_text": "Save",
        },
    )
    def share(self, request: HttpRequest, form: SharingDialog, object_id: str) -> HttpResponse:
        is_shared = form.cleaned_data["who"] == EVERYBODY
        done = "Everybody can use it." if is_shared else "Only its owner can use it."
        template = self.find(request, object_id)
        return self.carry_out(request, done, templates.change_template, template=template, is_shared=is_shared)
