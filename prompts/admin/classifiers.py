"""The versions of the classifier: how good each is, by intent, and how far a training has come."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import action, display
from unfold.forms import BaseDialogForm

from accounts.admin.base import HistoryAdmin
from accounts.admin.display import EMPTY, label, link_to_list
from accounts.tasks import enqueue
from prompts.intents import upkeep
from prompts.models import IntentClassifier
from prompts.tasks import tend_intents

Status = IntentClassifier.Status

COLOURS = {Status.PENDING: "info", Status.TRAINING: "warning", Status.READY: "", Status.FAILED: "danger"}


def percent_bar(share: float, text: str, *, low: float = 0.8) -> SafeString:
    """A share as a bar with a text under it; below `low` it warns."""
    return format_html(
        '<div class="usage-bar" data-level="{}" role="img" aria-label="{}">'
        '<div class="usage-track"><i style="width:{}%"></i></div><span>{}</span></div>',
        "warn" if share < low else "calm",
        text,
        round(100 * share, 1),
        text,
    )


def percent(share: float | None) -> str:
    return EMPTY if share is None else f"{100 * share:.1f} %"


def intent_rows(metrics: dict[str, Any]) -> list[list[Any]]:
    """Intent, bar and confusions of each intent, the worst first."""
    return [
        [
            link_to_list(row["intent"], "prompts_intentpattern", intent=row["intent"]),
            percent_bar(row["accuracy"], f"{percent(row['accuracy'])} of {row['patterns']}"),
            ", ".join(f"{name} ({count})" for name, count in row["taken_for"]) or EMPTY,
        ]
        for row in sorted(metrics.get("intents", []), key=lambda row: (row["accuracy"], row["intent"]))
    ]


@admin.register(IntentClassifier)
class IntentClassifierAdmin(HistoryAdmin):
    purpose = (
        "Trained versions of the classifier. A new one is trained by itself when patterns have changed and rested, and "
        "takes over when it is ready. The figures are of patterns that were held out of the training."
    )
    has_history = True
    list_display = ("shown_version", "state", "shown_accuracy", "shown_auroc", "pattern_count", "trained_at")
    ordering = ("-version",)
    actions_list = ("retrain",)
    change_form_before_template = "admin/prompts/intentclassifier/metrics.html"
    fieldsets = (
        (None, {"fields": (("shown_version", "state"), ("embedding_model", "pattern_count"), "error")}),
        ("Record", {"fields": (("created_at", "started_at"), ("trained_at", "patterns_changed_at"), "row_id")}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[IntentClassifier]:
        rows: QuerySet[IntentClassifier] = super().get_queryset(request)
        return rows.defer("weights")

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        context: dict[str, Any] = {}
        version = self.get_object(request, object_id) if object_id else None
        if version is not None and version.status == Status.READY:
            metrics = version.metrics
            context = {
                "numbers": [
                    ("Right, of held-out patterns", percent(metrics.get("accuracy"))),
                    ("Out-of-scope AUROC", f"{metrics.get('out_of_scope_auroc', 0):.3f}"),
                    ("Calibration error", f"{metrics.get('calibration_error', 0):.3f}"),
                    ("Unknown below", percent(version.calibration.get("threshold"))),
                    ("Patterns", f"{version.pattern_count:,}"),
                ],
                "intents": {"headers": ["Intent", "Right", "Taken for"], "rows": intent_rows(metrics)},
            }
        return super().changeform_view(request, object_id, form_url, {**context, **(extra_context or {})})

    @display(description="version", ordering="version")
    def shown_version(self, version: IntentClassifier) -> str:
        return f"Version {version.version}"

    @display(description="state", ordering="status")
    def state(self, version: IntentClassifier) -> SafeString:
        if version.is_active:
            return label("in use", "success")
        if version.status == Status.TRAINING:
            return percent_bar(version.progress / 100, f"being trained, {version.progress} %", low=0)
        return label(version.get_status_display().lower(), COLOURS[Status(version.status)])

    @display(description="right")
    def shown_accuracy(self, version: IntentClassifier) -> SafeString | str:
        share = version.metrics.get("accuracy")
        return EMPTY if share is None else percent_bar(share, percent(share))

    @display(description="out-of-scope AUROC")
    def shown_auroc(self, version: IntentClassifier) -> str:
        value = version.metrics.get("out_of_scope_auroc")
        return EMPTY if value is None else f"{value:.3f}"

    def has_retrain_permission(self, request: HttpRequest) -> bool:
        """Named by the action."""
        return request.user.has_perm("prompts.change_intentclassifier")

    @action(
        description="Retrain",
        icon="model_training",
        permissions=["retrain"],
        dialog={
            "title": "Train a new version now?",
            "description": "A worker trains it on all embedded patterns within moments. Until it is ready, the version "
            "in use goes on.",
            "form_class": BaseDialogForm,
            "form_submit_text": "Retrain",
        },
    )
    def retrain(self, request: HttpRequest, form: BaseDialogForm) -> HttpResponse:
        enqueue(tend_intents)
        return self.carry_out(request, "A new version waits for a worker.", upkeep.request_training)
