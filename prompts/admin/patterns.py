"""Labelled examples: written, corrected, and moved in files."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString
from import_export.fields import Field
from tablib import Dataset
from unfold.contrib.filters.admin import BooleanRadioFilter, ChoicesDropdownFilter, DropdownFilter
from unfold.decorators import action, display
from unfold.forms import BaseDialogForm
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget

from accounts.admin.base import operator
from accounts.admin.display import label, link_to
from accounts.admin.imports import CHANGED, NEW, SAME, ServiceResource, ServiceTransferAdmin
from accounts.admin.transfer import TransferResource
from accounts.tasks import enqueue
from prompts.intents import patterns
from prompts.models import IntentPattern
from prompts.models.intents import MOST_CHARACTERS
from prompts.tasks import tend_intents

WORDS = {"yes": True, "true": True, "1": True, "": True, "no": False, "false": False, "0": False}
COLOURS = {"starter": "", "operator": "info", "correction": "warning"}


def known_intents() -> list[str]:
    return list(IntentPattern.objects.order_by("intent").values_list("intent", flat=True).distinct())


# Files -----------------------------------------------------------------------------------------------------------


class PatternResource(TransferResource):
    is_active = Field("is_active")

    class Meta:
        model = IntentPattern
        fields = ("intent", "text", "language", "is_active")

    def dehydrate_is_active(self, pattern: IntentPattern) -> str:
        return "yes" if pattern.is_active else "no"


class PatternRow(forms.Form):
    intent = forms.CharField(max_length=60, validators=IntentPattern._meta.get_field("intent").validators)
    text = forms.CharField(max_length=MOST_CHARACTERS)
    language = forms.CharField(max_length=12, required=False, empty_value="en")
    is_active = forms.CharField(max_length=5, required=False)

    def clean_is_active(self) -> bool:
        word: str = self.cleaned_data["is_active"].lower()
        if word not in WORDS:
            raise ValidationError("This is yes or no.")
        return WORDS[word]


class PatternRows(ServiceResource):
    row_form = PatternRow

    class Meta:
        model = IntentPattern

    def lock(self, dataset: Dataset) -> None:
        texts = {text for text in dataset["text"] if "\0" not in text}
        named = IntentPattern.objects.filter(text__in=texts).order_by("id")
        list(named.select_for_update(no_key=True, of=("self",)).values_list("pk"))

    def carry_out(self, cells: dict[str, Any]) -> str:
        self.only_once(cells["intent"], cells["text"])
        same = IntentPattern.objects.filter(intent=cells["intent"], text=cells["text"]).first()
        if same is None:
            patterns.add(**cells, by=self.by)
            return NEW
        terms = {name: cells[name] for name in ("language", "is_active")}
        return CHANGED if patterns.change(pattern_id=same.pk, by=self.by, **terms) else SAME

    def after_import(self, dataset: Dataset, result: Any, **kwargs: Any) -> None:
        """Of a preview, nothing is handed to a worker: that waits for a commit, and there is none."""
        enqueue(tend_intents)


# Pages -----------------------------------------------------------------------------------------------------------


class IntentFilter(DropdownFilter):
    title = "intent"
    parameter_name = "intent"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(intent, intent) for intent in known_intents()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[IntentPattern]) -> QuerySet[IntentPattern]:
        return queryset.filter(intent=self.value()) if self.value() else queryset


class EmbeddedFilter(DropdownFilter):
    title = "vector"
    parameter_name = "embedded"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Embedded"), ("no", "Waiting for it")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[IntentPattern]) -> QuerySet[IntentPattern]:
        if self.value() not in {"yes", "no"}:
            return queryset
        return queryset.filter(embedding__isnull=self.value() == "no")


class CorrectionDialog(BaseDialogForm):
    intent = forms.ChoiceField(label="Right intent", widget=UnfoldAdminSelectWidget)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["intent"].choices = [(intent, intent) for intent in known_intents()]
        self.fields["intent"].initial = patterns.likeliest_other_intent(pattern_id=self.object_id)


@admin.register(IntentPattern)
class IntentPatternAdmin(ServiceTransferAdmin):
    purpose = (
        "Texts, and what somebody who writes them wants. Texts that callers have classified are held against these. A "
        "new pattern or a correction counts at once; the classifier learns it when the patterns have rested for "
        "20 seconds. A pattern that is not wanted any more is switched off."
    )
    resource_classes = (PatternResource,)
    import_resource_classes = (PatternRows,)
    import_note = (
        "Each row is a pattern. Intents are written in small letters, digits and underscores; language may be empty, "
        "which means en, and is_active is yes or no. Patterns that the file does not name stay as they are."
    )
    list_display = ("shown_text", "intent", "shown_source", "language", "vector", "is_active", "updated_at")
    list_filter = (
        IntentFilter,
        ("source", ChoicesDropdownFilter),
        EmbeddedFilter,
        ("is_active", BooleanRadioFilter),
    )
    list_filter_submit = True
    search_fields = ("text", "intent")
    search_help_text = "Text or intent"
    ordering = ("-updated_at", "id")
    actions_detail = ("correct_intent",)
    readonly_fields = ("shown_source", "vector", "author", "row_id", "created_at", "updated_at")
    add_fieldsets = ((None, {"fields": ("text", ("intent", "language"))}),)
    fieldsets = (
        (None, {"fields": ("text", ("intent", "language"), "is_active")}),
        ("Record", {"fields": (("shown_source", "author"), ("vector", "row_id"), ("created_at", "updated_at"))}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[IntentPattern]:
        """Without the vectors, which nobody reads."""
        rows: QuerySet[IntentPattern] = super().get_queryset(request)
        return rows.defer("embedding").annotate(
            is_embedded=models.Q(embedding__isnull=False),
        )

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "text":
            kwargs["widget"] = UnfoldAdminTextareaWidget(attrs={"rows": 3})
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    @display(description="text", ordering="text")
    def shown_text(self, pattern: IntentPattern) -> str:
        return pattern.text

    @display(description="source", ordering="source")
    def shown_source(self, pattern: IntentPattern) -> SafeString:
        return label(pattern.get_source_display().lower(), COLOURS[pattern.source])

    @display(description="vector")
    def vector(self, pattern: IntentPattern) -> SafeString:
        if getattr(pattern, "is_embedded", False):
            return label(f"by {pattern.embedding_model}", "success")
        return label("waiting", "warning")

    @display(description="written by")
    def author(self, pattern: IntentPattern) -> SafeString | str:
        return link_to(pattern.created_by)

    # Permissions

    def has_delete_permission(self, request: HttpRequest, obj: IntentPattern | None = None) -> bool:
        """What is switched off can be switched on again, and cached answers notice it."""
        return False

    def may_import(self, request: HttpRequest) -> bool:
        return bool(self.has_add_permission(request) and self.has_change_permission(request))

    def has_correct_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Named by the action."""
        return bool(self.has_change_permission(request))

    # Writing

    def save_model(
        self, request: HttpRequest, obj: IntentPattern, form: ModelForm[IntentPattern], change: bool
    ) -> None:
        fields = {name: form.cleaned_data[name] for name in form.changed_data if name in form.cleaned_data}
        if change:
            patterns.change(pattern_id=obj.pk, by=operator(request), **fields)
        else:
            named = {name: form.cleaned_data[name] for name in ("intent", "text", "language")}
            obj.pk = patterns.add(**named, by=operator(request)).pk
        enqueue(tend_intents)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """The service has written all there is, and its audit event."""

    @action(
        description="Correct intent",
        icon="published_with_changes",
        permissions=["correct"],
        dialog={
            "title": "What does this text want?",
            "description": "The intent of the nearest other patterns is chosen already. What you choose counts from "
            "the next text that is classified; the classifier itself learns it within a minute.",
            "form_class": CorrectionDialog,
            "form_submit_text": "Correct",
        },
    )
    def correct_intent(self, request: HttpRequest, form: CorrectionDialog, object_id: str) -> HttpResponse:
        pattern, intent = self.find(request, object_id), form.cleaned_data["intent"]
        enqueue(tend_intents)
        return self.carry_out(
            request, f"This means {intent} from now on.", patterns.correct, pattern_id=pattern.pk, intent=intent
        )
