"""Rate limits: whether a call is let in, by all windows of all its subjects in one round trip to Redis.

A subject is a user with one class of routes, an API key, a channel or an address. A call is let in if every window of
every subject has room, and else counts nowhere. Each request counts as one when it is let in. Tokens count once the
call has been settled and it is known how many they are (`quotas.used_tokens`): while a window of tokens is full, calls
are refused; one that was let in may exceed it. While Redis is away, each process counts by itself
(`quotas.local_rates`).
"""

from __future__ import annotations

import hashlib
import struct
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import redis

from accounts import snapshots
from accounts.caller import Caller
from quotas import local_rates, plan_rates
from quotas.exceptions import RateLimitExceeded
from quotas.windows import CHANNEL, KEY, WINDOWS, Rate, Window

SCRIPT = Path(__file__).with_name("rates.lua").read_text()
SCRIPT_SHA = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()
ADDRESS = "address"
WHO = {KEY: "This API key", CHANNEL: "This channel", ADDRESS: "This address, without credentials,"}
ATTEMPTS = 3
MOST_REMEMBERED = 10_000


class Subject(NamedTuple):
    """Whose hits are counted under `counter`, by a section of what the plan of `user_id` allows, or by `rates`."""

    counter: str
    section: str
    user_id: UUID | None
    rates: tuple[Rate, ...] = ()


class Counter(NamedTuple):
    """A subject with its windows, also as the script takes them."""

    name: str
    section: str
    rates: tuple[Rate, ...]
    packed: bytes


class Limits(NamedTuple):
    """What limits some subjects, until `ends` (monotonic), if what Redis says of `versions` is still so."""

    subjects: tuple[Subject, ...]
    counters: tuple[Counter, ...]
    versions: dict[str, str]
    ends: float

    def forget(self) -> None:
        """What Redis says is not so any more."""
        _remembered.pop(self.subjects, None)
        for user_id in _users(self.subjects):
            plan_rates.forget(user_id)


_remembered: dict[tuple[Subject, ...], Limits] = {}


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a call is let in, and how all its windows stand then."""

    admitted: bool
    counters: Sequence[Counter]
    counts: Sequence[int]

    @property
    def windows(self) -> list[tuple[str, Window]]:
        """Each window with the section that it is of."""
        found = []
        counts = iter(self.counts)
        states = zip(counts, counts, counts, strict=True)
        for counter in self.counters:
            for rate in counter.rates:
                gone, before, current = next(states)
                counted = self.admitted and rate.unit == "requests"
                found.append((counter.section, Window(rate, gone, before, current + counted)))
        return found

    @property
    def retry_after(self) -> int:
        """Whole seconds until the same call would be let in; 0 if it is let in."""
        return 0 if self.admitted else -(-max(window.wait for _section, window in self.windows) // 1000)

    def tightest(self) -> dict[str, Window]:
        """Of each unit the window with the least room, and of several the one that takes the longest to be free."""
        found: dict[str, Window] = {}
        for _section, window in self.windows:
            other = found.get(window.rate.unit)
            if other is None or window.is_tighter_than(other):
                found[window.rate.unit] = window
        return found

    def check(self) -> None:
        """`RateLimitExceeded` unless the call is let in."""
        if self.admitted:
            return
        section, last = max(self.windows, key=lambda one: one[1].wait)
        raise RateLimitExceeded(
            who=WHO.get(section, "You"),
            limit=last.rate.limit,
            unit=last.rate.unit,
            window=WINDOWS.get(last.rate.size, f"in {last.rate.size // 1000} seconds"),
            retry_after=self.retry_after,
        )


# Who is counted --------------------------------------------------------------------------------------------------


def subjects_of(caller: Caller, route_class: str) -> tuple[Subject, ...]:
    """The caller, the key that calls, and the channel that it acts on; a key's owner's plan limits key and channel."""
    subjects = [Subject(f"rate:{caller.user_id}:{route_class}", route_class, caller.user_id)]
    owner = caller.acted_by or caller.user_id
    if caller.api_key_id is not None:
        subjects.append(Subject(f"rate:key:{caller.api_key_id}", KEY, owner))
    if caller.acted_by is not None and caller.channel != "api":
        subjects.append(Subject(f"rate:channel:{owner}:{caller.channel}", CHANNEL, owner))
    return tuple(subjects)


def subject_of_address(ip: str, *, counter: str, requests: int, seconds: int) -> Subject:
    """Somebody without credentials, who may make so many requests in so many seconds."""
    return Subject(f"rate:{counter}:{ip}", ADDRESS, None, (Rate("requests", seconds * 1000, requests),))


def limits_of(subjects: tuple[Subject, ...]) -> Limits:
    """What limits the subjects, as far as anything does."""
    found = _remembered.get(subjects)
    if found is not None and found.ends > time.monotonic():
        return found
    allowances = {user_id: plan_rates.allowance_of(user_id) for user_id in _users(subjects)}
    counters: list[Counter] = []
    versions: dict[str, str] = {}
    for subject in subjects:
        if subject.user_id is None:
            rates, packed = subject.rates, plan_rates.packed(subject.rates)
        else:
            rates, packed = allowances[subject.user_id].sections[subject.section]
        if rates:
            counters.append(Counter(subject.counter, subject.section, rates, packed))
    for allowance in allowances.values():
        versions |= allowance.versions
    ends = min((allowance.ends for allowance in allowances.values()), default=float("inf"))
    if len(_remembered) >= MOST_REMEMBERED:
        _remembered.clear()
    found = _remembered[subjects] = Limits(subjects, tuple(counters), versions, ends)
    return found


def known_limits(subjects: tuple[Subject, ...]) -> Limits | None:
    """What limited the subjects when they were last asked for, be it still true or not; reads nothing."""
    return _remembered.get(subjects)


def forget_limits() -> None:
    """Drop what this process remembers; for tests."""
    _remembered.clear()
    plan_rates.forget_all()


def _users(subjects: Iterable[Subject]) -> set[UUID]:
    return {subject.user_id for subject in subjects if subject.user_id is not None}


# Deciding --------------------------------------------------------------------------------------------------------


def decide(subjects: tuple[Subject, ...], *, now: float | None = None) -> Decision:
    """Let one request in, or not, and count it if so. `now` is in seconds since 1970."""
    at = milliseconds(now)
    if not is_redis_away():
        try:
            return _shared(subjects, at)
        except redis.RedisError:
            local_rates.redis_is_away()
    counters = limits_of(subjects).counters
    answer = local_rates.run([(one.name, one.rates) for one in counters], at, 1, 0)
    return Decision(bool(answer[0]), counters, answer[1:])


def decide_and_read(limits: Limits, names: Sequence[str]) -> tuple[Decision | None, list[bytes | None]]:
    """The decision about one request, if the limits are still true, and what Redis keeps under `names`.

    Raises `RedisError`.
    """
    return _ask(limits, question(limits, milliseconds(), names))


def add_tokens(used: Sequence[tuple[Counter, int]], *, now: int) -> None:
    """Count tokens that were used, whether there is room for them or not. `now` is in milliseconds since 1970."""
    counters = tuple(counter for counter, _tokens in used)
    limits = Limits((), counters, {}, ends=float("inf"))
    if not is_redis_away():
        try:
            _ask(limits, script_arguments(limits, now, requests=0, tokens=[tokens for _counter, tokens in used]))
        except redis.RedisError:
            local_rates.redis_is_away()
        else:
            return
    for counter, tokens in used:
        local_rates.run([(counter.name, counter.rates)], now, 0, tokens)


def milliseconds(now: float | None = None) -> int:
    return int((time.time() if now is None else now) * 1000)


def is_redis_away() -> bool:
    """Whether Redis did not answer a moment ago."""
    return local_rates.is_redis_away() or snapshots.redis_client().is_away


def script_arguments(
    limits: Limits, now: int, *, requests: int, tokens: Sequence[int], names: Sequence[str] = ()
) -> list[Any]:
    """What EVALSHA needs after the script's name; `tokens` are of each counter."""
    counters, versions = limits.counters, limits.versions
    head = struct.pack(f"<{4 + len(tokens)}d", now, requests, len(counters), len(versions), *tokens)
    return [
        len(counters) + len(versions) + len(names),
        *[counter.name for counter in counters],
        *versions,
        *names,
        head + b"".join([counter.packed for counter in counters]),
        *versions.values(),
    ]


def question(limits: Limits, now: int, names: Sequence[str] = ()) -> list[Any]:
    """Whether one request is let in, as EVALSHA takes it; and what Redis keeps under `names`."""
    return script_arguments(limits, now, requests=1, tokens=[0] * len(limits.counters), names=names)


def _shared(subjects: tuple[Subject, ...], now: int) -> Decision:
    """What Redis says. Raises `RedisError`."""
    for attempt in range(ATTEMPTS):
        limits = limits_of(subjects)
        if attempt == ATTEMPTS - 1:
            limits = limits._replace(versions={})  # the plans change all the time: what was read last counts
        if not limits.counters and not limits.versions:
            return Decision(True, (), ())
        decision, _values = _ask(limits, question(limits, now))
        if decision is not None:
            break
    assert decision is not None, "without versions, there is always an answer"
    return decision


def _ask(limits: Limits, arguments: list[Any]) -> tuple[Decision | None, list[bytes | None]]:
    """What the script answers: no decision if the limits have changed since they were read."""
    client = snapshots.redis_client()
    try:
        answer: Any = client.evalsha(SCRIPT_SHA, *arguments)
    except redis.exceptions.NoScriptError:
        answer = client.eval(SCRIPT, *arguments)
    counts, *values = answer
    if counts is None:
        limits.forget()
        return None, values
    return Decision(counts[0] == 1, limits.counters, counts[1:]), values
