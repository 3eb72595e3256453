"""Rate limits: whether a call is let in, by all windows of all its subjects in one round trip to Redis.

A subject is a user with one class of routes, an API key, a channel or an address. A call is let in if every window of
every subject has room, and else counts nowhere. Each request counts as one when it is let in. Tokens count once the
call has been settled and it is known how many they are: while a window of tokens is full, calls are refused; one that
was let in may exceed it.

What a user's plan allows, each process remembers for AUTH_SNAPSHOT_SECONDS, and Redis confirms in the same round trip
that it is still so: any change of a user gives the user a new generation (`accounts.snapshots`), and any change of a
plan gives the plan a new version. While Redis is away, each process counts by itself (`quotas.local_rates`).
"""

from __future__ import annotations

import hashlib
import struct
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, cast
from uuid import UUID

import redis
import structlog
from django.conf import settings
from django.db import transaction

from accounts import snapshots
from accounts.caller import Caller
from quotas import local_rates
from quotas.exceptions import RateLimitExceeded
from quotas.models import Plan, Subscription
from quotas.windows import CHANNEL, KEY, WINDOWS, Rate, Window, rates_by_section

log = structlog.get_logger(__name__)

SCRIPT = Path(__file__).with_name("rates.lua").read_text()
SCRIPT_SHA = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()
DEFAULT_PLAN = "default"
ADDRESS = "address"
WHO = {KEY: "This API key", CHANNEL: "This channel", ADDRESS: "This address, without credentials,"}
MOST_REMEMBERED = 10_000
ATTEMPTS = 3


class Subject(NamedTuple):
    """Whose hits are counted under `counter`, by a section of what the plan of `user_id` allows, or by `rates`."""

    counter: str
    section: str
    user_id: UUID | None
    rates: tuple[Rate, ...] = ()


class Counter(NamedTuple):
    """A subject with its windows, as the script takes them: their number, and size and limit of each."""

    name: str
    section: str
    rates: tuple[Rate, ...]
    packed: bytes


@dataclass(frozen=True)
class Decision:
    """Whether a call is let in, and how all its windows stand then."""

    admitted: bool
    counters: Sequence[Counter]
    counts: Sequence[int]

    @cached_property
    def windows(self) -> list[tuple[str, Window]]:
        """Each window with the section that it is of."""
        rates = [(counter.section, rate) for counter in self.counters for rate in counter.rates]
        found = zip(rates, self.counts[::3], self.counts[1::3], self.counts[2::3], strict=True)
        counted = int(self.admitted)
        return [
            (section, Window(rate, gone, before, current + (counted if rate.unit == "requests" else 0)))
            for (section, rate), gone, before, current in found
        ]

    @property
    def retry_after(self) -> int:
        """Whole seconds until the same call would be let in; 0 if it is let in."""
        return 0 if self.admitted else -(-max(window.wait for _section, window in self.windows) // 1000)

    def tightest(self, unit: str) -> Window | None:
        """The window of `unit` with the least room, and of several the one that takes the longest to be free."""
        windows = [window for _section, window in self.windows if window.rate.unit == unit]
        return min(windows, key=lambda window: (window.remaining, -window.reset), default=None)

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


def subjects_of(caller: Caller, route_class: str) -> list[Subject]:
    """The caller, the key that calls, and the channel that it acts on; a key's owner's plan limits key and channel."""
    subjects = [Subject(f"rate:{caller.user_id}:{route_class}", route_class, caller.user_id)]
    owner = caller.acted_by or caller.user_id
    if caller.api_key_id is not None:
        subjects.append(Subject(f"rate:key:{caller.api_key_id}", KEY, owner))
    if caller.acted_by is not None and caller.channel != "api":
        subjects.append(Subject(f"rate:channel:{owner}:{caller.channel}", CHANNEL, owner))
    return subjects


def subject_of_address(ip: str, *, requests: int, seconds: int) -> Subject:
    """Somebody without credentials, who may make so many requests in so many seconds."""
    return Subject(f"rate:ip:{ip}", ADDRESS, None, (Rate("requests", seconds * 1000, requests),))


# Deciding --------------------------------------------------------------------------------------------------------


def decide(subjects: Sequence[Subject], *, now: float | None = None) -> Decision:
    """Let one request in, or not, and count it if so. `now` is in seconds since 1970."""
    return _run(subjects, _milliseconds(now), requests=1, tokens=0)


def count_tokens(subjects: Sequence[Subject], tokens: int, *, now: float | None = None) -> None:
    """Add what a call has used in the end, whether there is room for it or not."""
    _run(subjects, _milliseconds(now), requests=0, tokens=tokens)


def _milliseconds(now: float | None) -> int:
    return int((time.time() if now is None else now) * 1000)


def _run(subjects: Sequence[Subject], now: int, *, requests: int, tokens: int) -> Decision:
    if not local_rates.is_redis_away():
        try:
            return _shared(subjects, now, requests, tokens)
        except redis.RedisError as error:
            local_rates.redis_is_away(error)
    counters = _counters(subjects, {user_id: _load(user_id) for user_id in _users(subjects)})
    answer = local_rates.run([(one.name, one.rates) for one in counters], now, requests, tokens)
    return Decision(bool(answer[0]), counters, answer[1:])


def _shared(subjects: Sequence[Subject], now: int, requests: int, tokens: int) -> Decision:
    """What Redis says. Raises `RedisError`."""
    for attempt in range(ATTEMPTS):
        counters, versions = current_limits(subjects)
        if attempt == ATTEMPTS - 1:
            versions = {}  # the plans change all the time: what was read last counts
        if not counters and not versions:
            return Decision(True, (), ())
        answer = _ask(script_arguments(counters, versions, now, requests=requests, tokens=tokens))
        if answer is not None:
            break
        for user_id in _users(subjects):
            _remembered.pop(user_id, None)
    assert answer is not None, "without versions, there is always an answer"
    return Decision(bool(answer[0]), counters, answer[1:])


def current_limits(subjects: Sequence[Subject]) -> tuple[list[Counter], dict[str, str]]:
    """What limits the subjects, and what Redis says for as long as that is true. Raises `RedisError`."""
    allowances = {user_id: _allowance(user_id) for user_id in _users(subjects)}
    versions: dict[str, str] = {}
    for allowance in allowances.values():
        versions |= allowance.versions
    return _counters(subjects, allowances), versions


def script_arguments(
    counters: Sequence[Counter], versions: dict[str, str], now: int, *, requests: int, tokens: int
) -> list[Any]:
    """What EVALSHA needs after the script's name."""
    packed = [struct.pack("<4d", now, requests, tokens, len(counters)), *[counter.packed for counter in counters]]
    names = [counter.name for counter in counters]
    return [len(names) + len(versions), *names, *versions, b"".join(packed), *versions.values()]


def _ask(arguments: list[Any]) -> list[int] | None:
    """What the script answers; None if the limits have changed since they were read."""
    client = snapshots.redis_client()
    try:
        answer: Any = client.evalsha(SCRIPT_SHA, *arguments)
    except redis.exceptions.NoScriptError:
        answer = client.eval(SCRIPT, *arguments)
    return cast("list[int] | None", answer)


def _counters(subjects: Iterable[Subject], allowances: dict[UUID, Allowance]) -> list[Counter]:
    """The subjects that anything limits."""
    counters = []
    for subject in subjects:
        if subject.user_id is None:
            counters.append(Counter(subject.counter, subject.section, subject.rates, _packed(subject.rates)))
            continue
        rates, packed = allowances[subject.user_id].sections[subject.section]
        if rates:
            counters.append(Counter(subject.counter, subject.section, rates, packed))
    return counters


def _packed(rates: Sequence[Rate]) -> bytes:
    numbers = [number for rate in rates for number in (-rate.size if rate.unit == "tokens" else rate.size, rate.limit)]
    return struct.pack(f"<{1 + len(numbers)}d", len(rates), *numbers)


# What plans allow ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a user's plan allows by section, until `ends` (monotonic), if what Redis says of `versions` is still so."""

    sections: dict[str, tuple[tuple[Rate, ...], bytes]]
    versions: dict[str, str]
    ends: float


_remembered: dict[UUID, Allowance] = {}


def publish(*, plan: Plan) -> None:
    """Once the running transaction commits, let every process know that `plan` has changed."""

    def write() -> None:
        row = Plan.objects.filter(pk=plan.pk).values_list("updated_at", "is_default").first()
        if row is None:
            return
        names = [str(plan.pk), *([DEFAULT_PLAN] if row[1] else [])]
        try:
            for name in names:
                # Nobody remembers a plan for longer than half of this.
                ends = 2 * settings.AUTH_SNAPSHOT_SECONDS
                snapshots.redis_client().set(_of_plan(name), _version(plan.pk, row[0]), ex=ends)
        except redis.RedisError:
            log.warning("rate_limits_not_published", plan=plan.slug)

    transaction.on_commit(write)


def forget_rates() -> None:
    """Drop what this process remembers and has counted by itself; for tests."""
    _remembered.clear()
    local_rates.forget_local_rates()


def _of_plan(name: str) -> str:
    return f"rate:plan:{name}"


def _version(plan_id: UUID, updated_at: datetime) -> str:
    return f"{plan_id} {updated_at.timestamp()}"


def _users(subjects: Iterable[Subject]) -> set[UUID]:
    return {subject.user_id for subject in subjects if subject.user_id is not None}


def _allowance(user_id: UUID) -> Allowance:
    """What is remembered of the user's plan, or else read now."""
    found = _remembered.get(user_id)
    if found is not None and found.ends > time.monotonic():
        return found
    name = snapshots.of_generation(user_id)
    # Before the row: a change that comes between the two is then noticed.
    generation = cast("bytes | None", snapshots.redis_client().get(name))
    found = _load(user_id)
    found.versions[name] = (generation or b"").decode()
    if len(_remembered) >= MOST_REMEMBERED:
        _remembered.clear()
    _remembered[user_id] = found
    return found


def _load(user_id: UUID) -> Allowance:
    """What the user's plan allows; without any plan, nothing is limited."""
    live = Subscription.objects.live().filter(user_id=user_id)
    row = live.values_list("plan_id", "plan__updated_at", "plan__rate_limits").first()
    name = str(row[0]) if row else DEFAULT_PLAN
    if row is None:
        row = Plan.objects.filter(is_default=True).values_list("pk", "updated_at", "rate_limits").first()
    versions = {_of_plan(name): _version(row[0], row[1])} if row else {}
    sections = {name: (rates, _packed(rates)) for name, rates in rates_by_section(row[2] if row else {}).items()}
    return Allowance(sections, versions, ends=time.monotonic() + settings.AUTH_SNAPSHOT_SECONDS)
