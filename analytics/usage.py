"""What one user used, by day, by model and by kind of work, from the request history."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Count, Q, QuerySet, Sum
from django.db.models.functions import TruncDate
from django.utils import timezone

from inference.models import Request


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over calls that have ended; cost in micro-USD."""

    requests: int = 0
    errors: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    seconds: int = 0
    characters: int = 0
    cost: int = 0

    def __add__(self, other: Totals) -> Totals:
        return Totals(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))


SUMMED = [field.name for field in fields(Totals) if field.name not in {"requests", "errors"}]


@dataclass(frozen=True, slots=True)
class Usage:
    """The days from `since` to `until` (UTC), both included. The groups hold the totals beside what they are of."""

    days: int
    since: date
    until: date
    totals: Totals
    by_day: list[dict[str, Any]]
    by_model: list[dict[str, Any]]
    by_type: list[dict[str, Any]]


def usage_of(*, user_id: UUID, days: int, today: date | None = None) -> Usage:
    """What the user used in the last `days` days, today included: every day, and what was called most first."""
    until = today or timezone.now().date()
    since = until - timedelta(days=days - 1)
    rows = _sums(user_id, since, until)
    by_day = _grouped(rows, "day")
    return Usage(
        days=days,
        since=since,
        until=until,
        totals=sum(by_day.values(), Totals()),
        by_day=[_row("day", day, by_day.get(day, Totals())) for day in _each_day(since, days)],
        by_model=_most_called_first("model", _grouped(rows, "model")),
        by_type=_most_called_first("request_type", _grouped(rows, "request_type")),
    )


def _sums(user_id: UUID, since: date, until: date) -> list[dict[str, Any]]:
    """A row for each day, model and kind of work."""
    begin, end = _midnight(since), _midnight(until + timedelta(days=1))
    # The index is by user and id. An id is made a moment before its row, so a day is more than enough.
    ended = Request.objects.filter(
        user_id=user_id, id__gte=_first_id(begin - timedelta(days=1)), created_at__gte=begin, created_at__lt=end
    ).exclude(status=Request.Status.RUNNING)
    dated: QuerySet[Any, Any] = ended.annotate(day=TruncDate("created_at", tzinfo=UTC)).order_by()
    sums = dated.values("day", "model", "request_type").annotate(
        requests=Count("id"),
        errors=Count("id", filter=Q(status=Request.Status.ERROR)),
        **{f"sum_{name}": Sum(name) for name in SUMMED},
    )
    return list(sums)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _first_id(moment: datetime) -> UUID:
    """The lowest id (UUID, version 7) that a row can have got at a moment."""
    return UUID(int=int(moment.timestamp() * 1000) << 80)


def _each_day(since: date, days: int) -> list[date]:
    return [since + timedelta(days=number) for number in range(days)]


def _grouped(rows: Iterable[Mapping[str, Any]], name: str) -> dict[Any, Totals]:
    totals: dict[Any, Totals] = {}
    for row in rows:
        own = Totals(row["requests"], row["errors"], *(row[f"sum_{summed}"] for summed in SUMMED))
        totals[row[name]] = totals.get(row[name], Totals()) + own
    return totals


def _most_called_first(name: str, groups: Mapping[str, Totals]) -> list[dict[str, Any]]:
    return [_row(name, key, groups[key]) for key in sorted(groups, key=lambda key: (-groups[key].requests, key))]


def _row(name: str, key: Any, totals: Totals) -> dict[str, Any]:
    return {name: key, **asdict(totals)}
