"""The history of improved prompts: operators read it, and correct what was taken for something else."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter, DropdownFilter
from unfold.decorators import action, display
from unfold.forms import BaseDialogForm
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget

from accounts.admin.base import HistoryAdmin
from accounts.admin.display import EMPTY, label, link_to, link_to_list
from accounts.models import AuditEvent
from accounts.tasks import enqueue
from prompts.admin.patterns import known_intents
from prompts.enhance import history
from prompts.models import PromptHistory, Technique
from prompts.models.history import PromptHistoryQuerySet
from prompts.models.intents import MOST_CHARACTERS, UNKNOWN
from prompts.tasks import tend_intents
from quotas.admin.display import moment

SHOWN = 80
THUMBS = {"up": ("good", "success"), "down": ("bad", "danger")}


class IntentFilter(DropdownFilter):
    title = "intent"
    parameter_name = "intent"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(intent, intent) for intent in (*known_intents(), UNKNOWN)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[PromptHistory]) -> QuerySet[PromptHistory]:
        return queryset.filter(intent=self.value()) if self.value() else queryset


class TechniqueFilter(DropdownFilter):
    title = "technique"
    parameter_name = "technique"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return list(Technique.objects.order_by("title").values_list("slug", "title"))

    def queryset(self, request: HttpRequest, queryset: PromptHistoryQuerySet) -> QuerySet[PromptHistory]:
        return queryset.with_technique(str(self.value())) if self.value() else queryset


class RatingFilter(DropdownFilter):
    title = "feedback"
    parameter_name = "feedback"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("none", "None"), ("any", "Any"), *((str(stars), f"{stars} of 5") for stars in range(1, 6))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[PromptHistory]) -> QuerySet[PromptHistory]:
        value = self.value()
        if value in {"none", "any"}:
            return queryset.filter(feedback_at__isnull=value == "none")
        return queryset.filter(rating=value) if value in {"1", "2", "3", "4", "5"} else queryset


class CorrectionDialog(BaseDialogForm):
    intent = forms.ChoiceField(label="Right intent", widget=UnfoldAdminSelectWidget)
    text = forms.CharField(
        label="Example",
        max_length=MOST_CHARACTERS,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 4}),
        help_text="Kept as a pattern of the intent, which every caller may be shown: take out what is personal.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["intent"].choices = [
            ("", "Choose the right one"),
            *((intent, intent) for intent in known_intents()),
        ]
        found = PromptHistory.objects.filter(pk=self.object_id).first()
        if found is not None:
            self.fields["text"].initial = found.original[:MOST_CHARACTERS]


@admin.register(PromptHistory)
class PromptHistoryAdmin(HistoryAdmin):
    purpose = (
        "What people had improved, what became of it and why, and what they said of it. A prompt that was taken for "
        "something else is corrected on its page."
    )
    list_display = ("shown_original", "user", "shown_intent", "applied", "feedback", "created_at")
    list_select_related = ("user",)
    list_filter = (
        IntentFilter,
        TechniqueFilter,
        RatingFilter,
        ("thumbs", ChoicesDropdownFilter),
        ("user", AutocompleteSelectFilter),
        ("created_at", admin.DateFieldListFilter),
    )
    list_filter_submit = True
    search_fields = ("original", "user__email")
    search_help_text = "Original text, user's e-mail or id"
    ordering = ("-id",)
    has_history = True
    actions_detail = ("correct_intent",)
    fieldsets = (
        (None, {"fields": (("user", "shown_intent"), "original_text", "corrected", "enhanced_text", "reasons")}),
        ("Feedback", {"fields": (("feedback", "feedback_at"), "said")}),
        ("Record", {"fields": (("model", "call"), ("seed", "row_id"), "created_at")}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[PromptHistory]:
        rows: QuerySet[PromptHistory] = super().get_queryset(request)
        resolved = request.resolver_match
        is_list = resolved is not None and resolved.url_name == "prompts_prompthistory_changelist"
        return rows.defer("enhanced") if is_list else rows.select_related("request")

    @display(description="prompt", ordering="original")
    def shown_original(self, row: PromptHistory) -> str:
        line = " ".join(row.original[: 2 * SHOWN].split())
        return line if len(line) <= SHOWN else f"{line[:SHOWN]}…"

    @display(description="intent", ordering="intent")
    def shown_intent(self, row: PromptHistory) -> SafeString:
        colour = "warning" if row.intent == UNKNOWN else "info"
        return format_html("{} {}", label(row.intent, colour), f"{100 * row.confidence:.0f} %")

    @display(description="intent corrected")
    def corrected(self, row: PromptHistory) -> SafeString | str:
        """What it was taken for, and who knew better."""
        events = AuditEvent.objects.filter(action="prompthistory.corrected", target_id=str(row.pk)).order_by("id")
        said = ((event.metadata["former"], event.metadata["intent"], moment(event.created_at)) for event in events)
        return format_html_join(", ", "from {} to {}, {}", said) or EMPTY

    @display(description="techniques")
    def applied(self, row: PromptHistory) -> str:
        return ", ".join(history.slugs_of(row)).replace("_", " ") or EMPTY

    @display(description="feedback", ordering="rating")
    def feedback(self, row: PromptHistory) -> SafeString | str:
        said = [label(f"{row.rating} of 5", "success" if row.rating > 3 else "warning")] if row.rating else []
        if row.thumbs:
            said.append(label(*THUMBS[row.thumbs]))
        if row.used_it is not None:
            said.append(label("used" if row.used_it else "unused", "success" if row.used_it else ""))
        return format_html_join(" ", "{}", ((one,) for one in said)) or EMPTY

    @display(description="original")
    def original_text(self, row: PromptHistory) -> SafeString:
        return format_html('<pre class="json-block">{}</pre>', row.original)

    @display(description="enhanced")
    def enhanced_text(self, row: PromptHistory) -> SafeString:
        return format_html('<pre class="json-block">{}</pre>', row.enhanced)

    @display(description="techniques, and why")
    def reasons(self, row: PromptHistory) -> SafeString | str:
        """In the order in which they were applied."""
        found = (
            (link_to_list(one["name"], "prompts_technique", q=one["name"]), one["version"], one["reason"])
            for one in row.techniques
        )
        listed = format_html_join("", "<li>{}, version {}: {}</li>", found)
        return format_html('<ol class="reasons">{}</ol>', listed) if listed else EMPTY

    @display(description="comment")
    def said(self, row: PromptHistory) -> str:
        return row.comment or EMPTY

    @display(description="request")
    def call(self, row: PromptHistory) -> SafeString | str:
        return link_to(row.request)

    def has_correct_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Named by the action, which writes a pattern."""
        needed = ("prompts.change_prompthistory", "prompts.add_intentpattern", "prompts.change_intentpattern")
        return bool(request.user.has_perms(needed))

    @action(
        description="Wrong intent",
        icon="published_with_changes",
        permissions=["correct"],
        dialog={
            "title": "What does this prompt want?",
            "description": "The example is classified so from the next prompt on, and texts like it as soon as a "
            "worker has embedded it. What the prompt has said of its techniques counts for the right intent.",
            "form_class": CorrectionDialog,
            "form_submit_text": "Correct",
        },
    )
    def correct_intent(self, request: HttpRequest, form: CorrectionDialog, object_id: str) -> HttpResponse:
        row, chosen = self.find(request, object_id), form.cleaned_data
        enqueue(tend_intents)
        done = f"This means {chosen['intent']} from now on."
        return self.carry_out(
            request, done, history.correct_intent, history_id=row.pk, intent=chosen["intent"], text=chosen["text"]
        )
