"""Rate limits as plans hold them, and the arithmetic of sliding windows.

A plan's `rate_limits` names how many requests and tokens a window of time may have, section by section:

    {"default": {"requests": {"second": 5, "minute": 60}}, "inference": {"tokens": {"minute": 100000}}}

The sections are the classes of routes, each counted by itself for each user; `default` for those classes that have no
section; `key`, for each API key over all classes; and `channel`, for each channel that a subscriber's keys act on, all
its people together.

A window is counted as Cloudflare's limiter does it: the hits of the running window, and those of the window before as
far as it still reaches into the last `size`, as if they had been spread evenly. So no aligned window has more hits than
the limit, and no other stretch of that length more than twice as many.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from django.core.exceptions import ValidationError
from django.db.models import TextChoices

from quotas.meters import Unit

SIZES = {"second": 1_000, "minute": 60_000, "hour": 3_600_000, "day": 86_400_000}
WINDOWS = {size: f"an {name}" if name == "hour" else f"a {name}" for name, size in SIZES.items()}
UNITS = (Unit.REQUESTS.value, Unit.TOKENS.value)
MOST_RATE = 10**12


class RouteClass(TextChoices):
    """Which routes are limited together."""

    INFERENCE = "inference"
    CONVERSATIONS = "conversations"
    PROMPTS = "prompts"
    API = "api"


DEFAULT, KEY, CHANNEL = "default", "key", "channel"
SECTIONS = (DEFAULT, *RouteClass.values, KEY, CHANNEL)


class Rate(NamedTuple):
    """At most `limit` hits of `unit` in `size` milliseconds."""

    unit: str
    size: int
    limit: int


def validate_rate_limits(value: Any) -> None:
    """`ValidationError` with a sentence unless `value` has the shape of a plan's `rate_limits`."""
    for section, units in _items(value, SECTIONS, "section"):
        for unit, windows in _items(units, UNITS, f"unit in {section}"):
            for window, limit in _items(windows, SIZES, f"window in {section} {unit}"):
                if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= MOST_RATE:
                    raise ValidationError(
                        f"{section} {unit} {window}: a rate limit is a whole number from 1 to {MOST_RATE}."
                    )


def _items(value: Any, names: Any, what: str) -> Any:
    if not isinstance(value, dict):
        raise ValidationError(f"Each {what} must be named: {', '.join(names)}.")
    if unknown := sorted(str(name) for name in value.keys() - set(names)):
        raise ValidationError(f"There is no {what} called {unknown[0]}. There are: {', '.join(names)}.")
    return value.items()


def rates_by_section(rate_limits: Mapping[str, Any]) -> dict[str, tuple[Rate, ...]]:
    """A plan's `rate_limits`, ready for use: what `default` stands in for is filled in."""
    sections = {name: rate_limits.get(name, rate_limits.get(DEFAULT, {})) for name in RouteClass.values}
    sections |= {name: rate_limits.get(name, {}) for name in (KEY, CHANNEL)}
    return {name: _rates(units) for name, units in sections.items()}


def _rates(units: Mapping[str, Mapping[str, int]]) -> tuple[Rate, ...]:
    return tuple(
        Rate(unit, size, units[unit][window])
        for unit in UNITS
        for window, size in SIZES.items()
        if window in units.get(unit, {})
    )


class Window(NamedTuple):
    """How one window stands; `gone`, the time since it began, in milliseconds, and the counts of two windows."""

    rate: Rate
    gone: int
    before: int
    current: int

    @property
    def used(self) -> int:
        return self.before * (self.rate.size - self.gone) // self.rate.size + self.current

    @property
    def remaining(self) -> int:
        return max(0, self.rate.limit - self.used)

    @property
    def wait(self) -> int:
        """Milliseconds until it lets one more hit in, if nobody else comes meanwhile."""
        return self._until_fewer_than(self.rate.limit)

    @property
    def reset(self) -> int:
        """Milliseconds until nothing of it is used, if nobody comes meanwhile."""
        return self._until_fewer_than(1)

    def is_tighter_than(self, other: Window) -> bool:
        """Whether it has less room, or as much and takes longer to be free."""
        left, others = self.remaining, other.remaining
        return left < others or (left == others and self.reset > other.reset)

    def _until_fewer_than(self, count: int) -> int:
        if self.used < count:
            return 0
        if self.current < count:
            return _gone_when(self.before, count - self.current, self.rate.size) - self.gone
        return self.rate.size - self.gone + _gone_when(self.current, count, self.rate.size)


def _gone_when(before: int, room: int, size: int) -> int:
    """The first millisecond of a window in which the window before weighs less than `room`, of at most `before`."""
    return size * (before - room) // before + 1
