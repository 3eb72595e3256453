"""How many tokens calls have used in the end, which counts against the rates of those who made them.

A call only notes it, and waits for nothing: a thread tells Redis about all calls at once, a moment later. What a
process has not told when it dies is lost, as rates may be a little wrong.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from quotas import rates
from quotas.rates import Counter, Subject

SECONDS_GATHERED = 0.25
# Redis does nothing else meanwhile: some ten milliseconds.
MOST_AT_ONCE = 500

Subjects = tuple[Subject, ...]


@dataclass
class Notes:
    """What this process has not told Redis yet."""

    used: dict[Subjects, int] = field(default_factory=dict)
    latest: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    telling: threading.Lock = field(default_factory=threading.Lock)
    is_some: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None

    def add(self, subjects: Subjects, tokens: int, now: int) -> None:
        with self.lock:
            is_first = not self.used
            self.used[subjects] = self.used.get(subjects, 0) + tokens
            self.latest = now
        if is_first:
            self._wake()

    def flush(self) -> None:
        with self.telling:
            with self.lock:
                used, self.used = self.used, {}
                latest = self.latest
            _tell(used, latest)

    def _wake(self) -> None:
        with self.lock:
            if self.thread is None or not self.thread.is_alive():
                self.thread = threading.Thread(target=self._keep_telling, name="used-tokens", daemon=True)
                self.thread.start()
        self.is_some.set()

    def _keep_telling(self) -> None:
        while self.is_some.wait():
            self.is_some.clear()
            time.sleep(SECONDS_GATHERED)
            self.flush()


_notes = Notes()


def note(subjects: Subjects, tokens: int, *, now: float | None = None) -> None:
    """Add what a call has used, whether there is room for it or not. `now` is in seconds since 1970."""
    _notes.add(subjects, tokens, rates.milliseconds(now))


def flush() -> None:
    """Tell Redis now; for the end of a process, and for tests."""
    _notes.flush()


def forget_tokens() -> None:
    """Drop what has not been told; for tests."""
    with _notes.telling, _notes.lock:
        _notes.used.clear()


def _tell(used: Mapping[Subjects, int], now: int) -> None:
    """By the limits that this process has read last: it counts, even if they have changed."""
    counters: dict[str, Counter] = {}
    tokens: dict[str, int] = defaultdict(int)
    for subjects, count in used.items():
        limits = rates.known_limits(subjects)
        for counter in limits.counters if limits else ():
            if any(rate.unit == "tokens" for rate in counter.rates):
                counters[counter.name] = counter
                tokens[counter.name] += count
    all_used = [(counter, tokens[name]) for name, counter in counters.items()]
    for first in range(0, len(all_used), MOST_AT_ONCE):
        rates.add_tokens(all_used[first : first + MOST_AT_ONCE], now=now)
