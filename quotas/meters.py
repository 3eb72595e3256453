"""What can be metered: pairs of a resource and a unit, and how long a period lasts."""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from django.db import models


class Resource(models.TextChoices):
    LLM = "llm", "Language model"
    EMBEDDING = "embedding", "Embedding"
    STT = "stt", "Speech to text"
    TTS = "tts", "Text to speech"


class Unit(models.TextChoices):
    REQUESTS = "requests"
    TOKENS = "tokens"
    SECONDS = "seconds"
    CHARACTERS = "characters"
    BYTES = "bytes"
    COST = "cost", "Cost (micro-USD)"


class Period(models.TextChoices):
    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"
    NONE = "none", "Never resets"


def each(period: str) -> str:
    """How often, in words: `a month`, `an hour`, `in all`."""
    if period == Period.NONE:
        return "in all"
    return f"an {period}" if period == Period.HOUR else f"a {period}"


class Cycle(models.TextChoices):
    """What periods are counted from."""

    CALENDAR = "calendar", "Calendar (UTC)"
    ANNIVERSARY = "anniversary", "Anniversary of the subscription"


class Meter(NamedTuple):
    """What an amount is an amount of. Its text form is `resource.unit`, as in `llm.tokens`."""

    resource: str
    unit: str

    def __str__(self) -> str:
        return f"{self.resource}.{self.unit}"


LENGTHS = {
    Period.MINUTE: timedelta(minutes=1),
    Period.HOUR: timedelta(hours=1),
    Period.DAY: timedelta(days=1),
    Period.WEEK: timedelta(days=7),
}
MONTHS = {Period.MONTH: 1, Period.YEAR: 12}
# A minute, an hour, a day, a week (it was a Monday), a month and a year began then.
CALENDAR = datetime(2001, 1, 1, tzinfo=UTC)


def period_end(period: str, now: datetime, anchored_at: datetime | None = None) -> datetime | None:
    """The first instant after the period that `now` is in; None for a period that never ends.

    Calendar periods begin at the full minute, at midnight, on Mondays, on the first; anniversary periods as often as
    that long ago something began, at `anchored_at`. All are counted in UTC, where no day is longer than another.
    """
    if period == Period.NONE:
        return None
    now = now.astimezone(UTC)
    begin = (anchored_at or CALENDAR).astimezone(UTC)
    if period in MONTHS:
        step = MONTHS[Period(period)]
        count = ((now.year - begin.year) * 12 + now.month - begin.month) // step
        end = months_after(begin, count * step)
        return end if end > now else months_after(begin, (count + 1) * step)
    length = LENGTHS[Period(period)]
    return begin + length * ((now - begin) // length + 1)


def months_after(begin: datetime, months: int) -> datetime:
    """So many months later on the same day of the month, or on its last if it has no such day."""
    year, month = divmod(begin.year * 12 + begin.month - 1 + months, 12)
    return begin.replace(year=year, month=month + 1, day=min(begin.day, monthrange(year, month + 1)[1]))
