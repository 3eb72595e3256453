"""Rate limits while Redis is away: each process counts by itself, by the same rules as `rates.lua`.

Nothing is shared, so with n processes a caller may use up to n times its limits until Redis is back.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Sequence

import structlog
from prometheus_client import Counter

from quotas.windows import Rate

log = structlog.get_logger(__name__)

DECIDED = Counter(
    "mainstay_rate_limits_decided_locally", "Calls that a process has limited by itself, because Redis was away."
)

# Nobody waits for a Redis that has just failed to answer: it is asked again after this time.
SECONDS_BETWEEN_TRIES = 1.0
SECONDS_BETWEEN_WARNINGS = 60.0
MOST_COUNTERS = 10_000


# The number of a window since 1970, and the counts of the window before and of this one; by unit and size.
Windows = dict[tuple[str, int], tuple[int, int, int]]
Subjects = Sequence[tuple[str, Sequence[Rate]]]


class LocalRates:
    """The counters of this process, the oldest of which go when there are too many."""

    def __init__(self) -> None:
        self.decisions = 0
        self._lock = threading.Lock()
        self._counters: OrderedDict[str, Windows] = OrderedDict()
        self._away_until = self._warned_at = float("-inf")

    def is_redis_away(self) -> bool:
        return time.monotonic() < self._away_until

    def redis_is_away(self) -> None:
        """Do without Redis for a moment."""
        self._away_until = time.monotonic() + SECONDS_BETWEEN_TRIES

    def run(self, subjects: Subjects, now: int, requests: int, tokens: int) -> list[int]:
        """What the script would answer; a warning once a minute."""
        with self._lock:
            self.decisions += requests
            DECIDED.inc(requests)
            self._warn()
            answer, new = [1], {}
            for name, rates in subjects:
                windows: Windows = {}
                for unit, size, limit in rates:
                    index, before, current = _roll(self._counters.get(name, {}).get((unit, size)), now // size)
                    gone = max(0, now - index * size)
                    if requests and before * (size - gone) // size + current >= limit:
                        answer[0] = 0
                    answer += (gone, before, current)
                    windows[unit, size] = (index, before, current + (tokens if unit == "tokens" else requests))
                new[name] = windows
            if answer[0]:
                self._keep(new)
            return answer

    def _warn(self) -> None:
        if time.monotonic() - self._warned_at >= SECONDS_BETWEEN_WARNINGS:
            self._warned_at = time.monotonic()
            log.warning("rate_limits_local", decided_locally=self.decisions)

    def _keep(self, new: dict[str, Windows]) -> None:
        for name, windows in new.items():
            self._counters[name] = windows
            self._counters.move_to_end(name)
        while len(self._counters) > MOST_COUNTERS:
            self._counters.popitem(last=False)


def _roll(kept: tuple[int, int, int] | None, index: int) -> tuple[int, int, int]:
    """What was kept of a window: its number, and both counts as they are now."""
    if kept is None:
        return index, 0, 0
    if kept[0] in (index, index + 1):
        return kept
    return index, kept[2] if kept[0] == index - 1 else 0, 0


_here = LocalRates()


def is_redis_away() -> bool:
    """Whether Redis did not answer a moment ago."""
    return _here.is_redis_away()


def redis_is_away() -> None:
    """Count here for a moment."""
    _here.redis_is_away()


def run(subjects: Subjects, now: int, requests: int, tokens: int) -> list[int]:
    """What the script would answer, from the counters of this process."""
    return _here.run(subjects, now, requests, tokens)


def decided_locally() -> int:
    """How many calls this process has limited by itself since it started."""
    return _here.decisions


def forget_local_rates() -> None:
    """Start anew; for tests."""
    global _here
    _here = LocalRates()
