"""The numbers on the admin's first page, from the roll-ups; only the running calls are counted where they are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import date, timedelta
from typing import Any

from django.db.models import F, QuerySet, Sum
from django.http import HttpRequest
from django.utils import timezone

from analytics.models import DailyStat
from inference.models import Request
from quotas.admin.display import dollars

CHART_DAYS = 14
WEEK_DAYS = 7
TOP_MODELS = 8


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over some days and models; cost in micro-USD."""

    calls: int = 0
    errors: int = 0
    tokens: int = 0
    cost: int = 0

    def __add__(self, other: Totals) -> Totals:
        return Totals(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))


@dataclass(frozen=True, slots=True)
class ModelTotals:
    name: str
    totals: Totals


def totals_by_day(*, since: date) -> dict[date, Totals]:
    return {row["day"]: _totals(row) for row in _sums("day", since=since)}


def totals_by_model(*, since: date, most: int = TOP_MODELS) -> list[ModelTotals]:
    """The models that were called most, first the first."""
    rows = _sums("model", since=since).order_by("-calls", "model")
    return [ModelTotals(row["model"], _totals(row)) for row in rows[:most]]


def running_calls() -> int:
    return Request.objects.filter(status=Request.Status.RUNNING).count()


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """UNFOLD's DASHBOARD_CALLBACK: what templates/admin/index.html shows, to those who may see the statistics."""
    if not request.user.has_perm("analytics.view_dailystat"):
        return context | {"title": "Dashboard"}
    today = timezone.now().date()
    days = [today - timedelta(days=back) for back in reversed(range(CHART_DAYS))]
    by_day = totals_by_day(since=days[0])
    week = sum((by_day.get(day, Totals()) for day in days[-WEEK_DAYS:]), Totals())
    models = totals_by_model(since=days[-WEEK_DAYS])
    most_calls = max((model.totals.calls for model in models), default=0)
    return context | {
        "title": "Dashboard",
        "running": running_calls(),
        "spans": [_span("Today", by_day.get(today, Totals())), _span(f"Last {WEEK_DAYS} days", week)],
        "chart": _chart(days, by_day) if by_day else None,
        "chart_options": json.dumps(CHART_OPTIONS),
        "chart_days": CHART_DAYS,
        "models": [_model_row(model, most_calls) for model in models],
    }


def _sums(group: str, *, since: date) -> QuerySet[Any, dict[str, Any]]:
    rows: QuerySet[Any, dict[str, Any]] = DailyStat.objects.filter(day__gte=since).order_by().values(group)
    summed: QuerySet[Any, dict[str, Any]] = rows.annotate(
        calls=Sum("requests"),
        failed=Sum("errors"),
        tokens=Sum(F("input_tokens") + F("output_tokens")),
        micro=Sum("cost"),
    )
    return summed


def _totals(row: dict[str, Any]) -> Totals:
    return Totals(calls=row["calls"], errors=row["failed"], tokens=row["tokens"], cost=row["micro"])


def _span(title: str, totals: Totals) -> dict[str, Any]:
    share = f"{100 * totals.errors / totals.calls:.1f} % of the calls" if totals.calls else ""
    return {
        "title": title,
        "numbers": [
            {"name": "Calls", "value": f"{totals.calls:,}"},
            {"name": "Errors", "value": f"{totals.errors:,}", "note": share, "is_bad": totals.errors > 0},
            {"name": "Tokens", "value": f"{totals.tokens:,}"},
            {"name": "Cost", "value": dollars(totals.cost)},
        ],
    }


def _model_row(model: ModelTotals, most_calls: int) -> dict[str, Any]:
    totals = model.totals
    return {
        "name": model.name,
        "calls": f"{totals.calls:,}",
        "tokens": f"{totals.tokens:,}",
        "cost": dollars(totals.cost),
        "share": round(100 * totals.calls / most_calls, 1) if most_calls else 0,
    }


# The theme's own options have no stacks.
CHART_OPTIONS = {
    "maintainAspectRatio": False,
    "animation": False,
    "plugins": {
        "legend": {
            "display": True,
            "align": "end",
            "labels": {"boxHeight": 6, "boxWidth": 6, "usePointStyle": True, "color": "#8b93a1"},
        }
    },
    "scales": {
        "x": {"stacked": True, "grid": {"display": False}, "ticks": {"color": "#8b93a1"}},
        "y": {
            "stacked": True,
            "beginAtZero": True,
            "border": {"display": False},
            "grid": {"lineWidth": 0.5},
            "ticks": {"color": "#8b93a1", "precision": 0, "maxTicksLimit": 6},
        },
    },
}


def _chart(days: Sequence[date], by_day: dict[date, Totals]) -> str:
    """Chart.js data: calls a day, those that failed on top."""
    totals = [by_day.get(day, Totals()) for day in days]
    rounded = {"borderRadius": 2, "maxBarThickness": 36}
    return json.dumps(
        {
            "labels": [f"{day.day} {day:%b}" if day in (days[0], day.replace(day=1)) else str(day.day) for day in days],
            "datasets": [
                {
                    "label": "Answered",
                    "data": [day.calls - day.errors for day in totals],
                    "backgroundColor": "var(--color-primary-500)",
                    **rounded,
                },
                {"label": "Failed", "data": [day.errors for day in totals], "backgroundColor": "#ef4444", **rounded},
            ],
        }
    )
