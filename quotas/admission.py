"""Callers whom a process knows are let in by the round trip to Redis that authenticates them.

For AUTH_SNAPSHOT_SECONDS a process remembers what limits whom a request's words have named, by a hash of these words.
Who sends them again is expected to be the same, and is counted while Redis is asked who it is. If it turns out to be
somebody else, the decision is made anew. Who is not let in at all is not counted: whatever ends a credential gives its
user a new generation, by which the script knows that it must not decide (`accounts.snapshots`).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence

import redis

from accounts import snapshots
from quotas import local_rates, rates, used_tokens
from quotas.rates import Decision, Limits, Subject

MOST_KNOWN = 10_000

_known: dict[bytes, Limits] = {}


class Admission:
    """Of one request. Its `words` are all that says who calls, and whether they may call this view at all."""

    def __init__(self, words: str) -> None:
        self._name = hashlib.sha256(words.encode()).digest()
        known = _known.get(self._name)
        self._limits = known if known is not None and known.ends > time.monotonic() else None
        self._decision: Decision | None = None

    def read(self, names: Sequence[str]) -> list[bytes | None]:
        """For authentication: what Redis keeps under `names`; decides on the way, if it can. Raises `RedisError`."""
        if self._limits is not None and not local_rates.is_redis_away():
            try:
                self._decision, values = rates.decide_and_read(self._limits, names)
            except redis.ResponseError:
                # Such as a Redis that is full: it cannot count, but it can tell.
                return snapshots.read_values(names)
            return values
        return snapshots.read_values(names)

    def decide(self, subjects: tuple[Subject, ...]) -> Decision:
        """Whether the caller, now known, is let in."""
        if self._decision is not None and self._limits is not None and self._limits.subjects == subjects:
            return self._decision
        decision = rates.decide(subjects)
        if len(_known) >= MOST_KNOWN:
            _known.clear()
        _known[self._name] = rates.limits_of(subjects)
        return decision


def forget_rates() -> None:
    """Drop all that this process remembers and has counted by itself; for tests."""
    _known.clear()
    rates.forget_limits()
    used_tokens.forget_tokens()
    local_rates.forget_local_rates()
