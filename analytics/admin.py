"""The roll-ups as a list; the dashboard draws them."""

from __future__ import annotations

from django.contrib import admin
from unfold.contrib.filters.admin import ChoicesDropdownFilter, FieldTextFilter, RangeDateFilter
from unfold.decorators import display

from accounts.admin.base import HistoryAdmin
from analytics.models import DailyStat
from quotas.admin.display import dollars


@admin.register(DailyStat)
class DailyStatAdmin(HistoryAdmin):
    list_display = (
        *("day", "request_type", "model", "shown_requests", "shown_errors"),
        *("shown_input", "shown_output", "shown_cost", "users"),
    )
    list_filter = (
        ("day", RangeDateFilter),
        ("request_type", ChoicesDropdownFilter),
        ("model", FieldTextFilter),
    )
    list_filter_submit = True
    search_fields = ("model",)
    search_help_text = "Model"
    ordering = ("-day", "-requests")
    fields = (
        *(("day", "request_type"), ("model", "users"), ("shown_requests", "shown_errors")),
        *(("shown_input", "shown_output"), "shown_cost"),
    )

    @display(description="calls", ordering="requests")
    def shown_requests(self, stat: DailyStat) -> str:
        return f"{stat.requests:,}"

    @display(description="errors", ordering="errors")
    def shown_errors(self, stat: DailyStat) -> str:
        if not stat.errors:
            return "0"
        return f"{stat.errors:,} ({100 * stat.errors / stat.requests:.1f} %)"

    @display(description="input tokens", ordering="input_tokens")
    def shown_input(self, stat: DailyStat) -> str:
        return f"{stat.input_tokens:,}"

    @display(description="output tokens", ordering="output_tokens")
    def shown_output(self, stat: DailyStat) -> str:
        return f"{stat.output_tokens:,}"

    @display(description="cost", ordering="cost")
    def shown_cost(self, stat: DailyStat) -> str:
        return dollars(stat.cost)
