"""What can be metered: pairs of a resource and a unit, and how long a period lasts."""

from __future__ import annotations

from datetime import datetime, timedelta
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


class Meter(NamedTuple):
    """What an amount is an amount of. Its text form is `resource.unit`, as in `llm.tokens`."""

    resource: str
    unit: str

    def __str__(self) -> str:
        return f"{self.resource}.{self.unit}"


def period_end(period: str, now: datetime) -> datetime | None:
    """The first instant after the calendar period (UTC) that `now` is in; None for a period that never ends."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    match period:
        case Period.MINUTE:
            return now.replace(second=0, microsecond=0) + timedelta(minutes=1)
        case Period.HOUR:
            return now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
        case Period.DAY:
            return midnight + timedelta(days=1)
        case Period.WEEK:
            return midnight + timedelta(days=7 - now.weekday())
        case Period.MONTH:
            return (midnight.replace(day=1) + timedelta(days=32)).replace(day=1)
        case Period.YEAR:
            return midnight.replace(year=now.year + 1, month=1, day=1)
        case _:
            return None
