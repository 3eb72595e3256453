"""What has come of techniques: a map of all intents, and the figures behind it."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import DropdownFilter
from unfold.decorators import display

from accounts.admin.base import HistoryAdmin
from accounts.admin.display import EMPTY, link_to_list
from prompts.enhance.estimates import Estimate, estimate, estimate_of
from prompts.models import Technique, TechniqueEffectiveness


class IntentFilter(DropdownFilter):
    title = "intent"
    parameter_name = "intent"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        intents = TechniqueEffectiveness.objects.order_by("intent").values_list("intent", flat=True).distinct()
        return [(intent, intent) for intent in intents]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[TechniqueEffectiveness]
    ) -> QuerySet[TechniqueEffectiveness]:
        return queryset.filter(intent=self.value()) if self.value() else queryset


class TechniqueFilter(DropdownFilter):
    title = "technique"
    parameter_name = "technique"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return list(Technique.objects.order_by("title").values_list("slug", "title"))

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[TechniqueEffectiveness]
    ) -> QuerySet[TechniqueEffectiveness]:
        return queryset.filter(technique__slug=self.value()) if self.value() else queryset


@admin.register(TechniqueEffectiveness)
class TechniqueEffectivenessAdmin(HistoryAdmin):
    purpose = (
        "How often each technique has worked for each intent, by what people said of the results. The next prompts get "
        "the techniques that do best here, and now and then one of which little is known."
    )
    list_display = ("technique", "intent", "worked", "judged", "shown", "used", "rating", "updated_at")
    list_select_related = ("technique",)
    list_filter = (IntentFilter, TechniqueFilter)
    list_filter_submit = True
    search_fields = ("intent", "technique__slug", "technique__title")
    search_help_text = "Intent or technique"
    ordering = ("intent", "technique__position", "technique__slug")
    list_before_template = "admin/prompts/techniqueeffectiveness/map.html"
    fields = (
        *(("technique", "intent"), "worked", ("judged", "rating"), ("shown", "used")),
        *(("successes", "failures"), ("updated_at", "row_id")),
    )

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        answer: HttpResponse = super().changelist_view(request, {"map": effectiveness_map(), **(extra_context or {})})
        return answer

    @display(description="worked")
    def worked(self, row: TechniqueEffectiveness) -> SafeString:
        return interval_bar(estimate_of(row))

    @display(description="judged")
    def judged(self, row: TechniqueEffectiveness) -> str:
        return f"{row.successes + row.failures:.0f}"

    @display(description="mean rating")
    def rating(self, row: TechniqueEffectiveness) -> str:
        return f"{row.rating_sum / row.rating_count:.1f} of 5" if row.rating_count else EMPTY


def interval_bar(found: Estimate) -> SafeString:
    """The rate as a mark, on the stretch in which it lies most likely."""
    text = f"{found.rate:.0%}, between {found.low:.0%} and {found.high:.0%}"
    return format_html(
        '<div class="usage-bar interval-bar" role="img" aria-label="{}"><div class="usage-track">'
        '<b style="left:{}%;width:{}%"></b><i style="left:{}%"></i></div><span>{}</span></div>',
        text,
        *(round(100 * found.low, 1), round(100 * (found.high - found.low), 1), round(100 * found.rate, 1)),
        text,
    )


def effectiveness_map() -> dict[str, Any] | None:
    """Techniques by intents, of all intents that a prompt ever had; None before there is one."""
    found = {(row.intent, row.technique.slug): row for row in TechniqueEffectiveness.objects.with_techniques()}
    intents = sorted({intent for intent, _slug in found})
    met = {row.technique for row in found.values()} | set(Technique.objects.active())
    techniques = sorted(met, key=lambda technique: technique.title)
    if not intents:
        return None
    return {
        "intents": [link_to_list(_words(intent), "prompts_prompthistory", intent=intent) for intent in intents],
        "rows": [
            {
                "title": technique.title,
                "cells": [_cell(intent, technique, found.get((intent, technique.slug))) for intent in intents],
            }
            for technique in techniques
        ],
    }


def _cell(intent: str, technique: Technique, row: TechniqueEffectiveness | None) -> dict[str, Any]:
    judged = float(row.successes + row.failures) if row else 0.0
    is_judged = row is not None and judged > 0
    figures = (float(row.successes), float(row.failures)) if row else (0.0, 0.0)
    known = estimate(intent, technique.slug, *figures)
    said = f"{judged:.0f} judged" if is_judged else "not judged yet"
    return {
        "is_judged": is_judged,
        "percent": f"{known.rate:.0%}".removesuffix("%"),
        "rate": round(100 * known.rate, 1),
        "low": round(100 * known.low, 1),
        "width": round(100 * (known.high - known.low), 1),
        "judged": f"{judged:.0f}",
        "title": f"{technique.title}, {_words(intent)}: {known.rate:.0%}, most likely between {known.low:.0%} and "
        f"{known.high:.0%}; {said}, shown {row.shown if row else 0} times",
    }


def _words(intent: str) -> str:
    return intent.replace("_", " ")
