"""All active feature flags, at hand in every process within CACHE_SECONDS of a change, without SQL while they last.

A process keeps its copy for CACHE_SECONDS, then reads the hash `features` in Redis, and rebuilds that from PostgreSQL
if it is not there or of the past. Each change replaces the generation, a random text, and the hash counts only under
the generation that was read before the rows were: a process that read the old rows cannot bring them back.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, cast
from uuid import UUID

import orjson
import redis
import structlog
from django.db import connection, transaction

from accounts.snapshots import redis_client
from quotas import services
from quotas.flag_values import FlagValue
from quotas.models import FeatureFlag

log = structlog.get_logger(__name__)

CACHE_SECONDS = 0.5
# A change that Redis could not be told of is believed at the latest then.
REDIS_SECONDS = 60
GENERATION_SECONDS = 24 * 3600
SECONDS_BETWEEN_TRIES = 0.5
MOST_PLANS = 10_000

HASH = "features"
GENERATION = "features:generation"
# The field of the hash that no flag can be called by.
BUILT = ""

STORE_IF_UNCHANGED = """
if (redis.call('GET', KEYS[2]) or '') == ARGV[1] then
    redis.call('DEL', KEYS[1])
    for i = 3, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
    redis.call('EXPIRE', KEYS[1], ARGV[2])
end
"""


@dataclass(frozen=True, slots=True)
class Variant:
    name: str
    weight: int
    value: FlagValue


@dataclass(frozen=True, slots=True)
class Flag:
    """An active flag. Users and plans are named by their ids, as text."""

    id: str
    key: str
    salt: str
    value: FlagValue
    basis_points: int
    percentage_value: FlagValue
    variants: tuple[Variant, ...]
    users: Mapping[str, FlagValue]
    plans: Mapping[str, FlagValue]
    channels: Mapping[str, FlagValue]

    @classmethod
    def of(cls, row: FeatureFlag) -> Flag:
        rules = list(row.rules.all())
        return cls(
            id=str(row.pk),
            key=row.key,
            salt=row.salt,
            value=row.value,
            basis_points=int(row.percentage * 100),
            percentage_value=row.percentage_value,
            variants=tuple(Variant(variant.name, variant.weight, variant.value) for variant in row.variants.all()),
            users={str(rule.user_id): rule.value for rule in rules if rule.user_id},
            plans={str(rule.plan_id): rule.value for rule in rules if rule.plan_id},
            channels={rule.channel: rule.value for rule in rules if rule.channel},
        )

    @classmethod
    def read(cls, stored: bytes) -> Flag:
        found = orjson.loads(stored)
        return cls(**found | {"variants": tuple(Variant(**variant) for variant in found["variants"])})


Flags = Mapping[str, Flag]

# A release that stores flags in another form does not read those of the one before.
FORM = ",".join(field.name for field in (*fields(Flag), *fields(Variant)))

_copies: dict[str, tuple[float, Flags]] = {}
_plans: dict[UUID, tuple[float, str]] = {}


def active_flags() -> Flags:
    """Those flags that are active, by key, as they were at most CACHE_SECONDS ago."""
    now = time.monotonic()
    copy = _copies.get(HASH)
    if copy is not None and copy[0] > now:
        return copy[1]
    flags = _load()
    copy = _copies.get(HASH)
    # A thread that was faster and began later knows more.
    if copy is None or copy[0] < now + CACHE_SECONDS:
        _copies[HASH] = (now + CACHE_SECONDS, flags)
    return flags


def plan_of(user_id: UUID) -> str:
    """The id of the plan that a user is on, as it was at most CACHE_SECONDS ago; empty if there is no plan."""
    now = time.monotonic()
    cached = _plans.get(user_id)
    if cached is not None and cached[0] > now:
        return cached[1]
    subscription = services.current_subscription(user_id=user_id)
    plan = str(services.plan_that_counts(subscription).pk) if subscription else ""
    if len(_plans) >= MOST_PLANS:
        _plans.clear()
    _plans[user_id] = (now + CACHE_SECONDS, plan)
    return plan


def drop_flags() -> None:
    """Once the running transaction commits, let every process read the flags anew."""
    transaction.on_commit(_drop)


def forget_flags() -> None:
    """Drop this process's copy."""
    _copies.clear()
    _plans.clear()


def _drop() -> None:
    forget_flags()
    if not _begin_generation():
        log.warning("flags_not_dropped")
        threading.Thread(target=_keep_trying, daemon=True).start()


def _begin_generation() -> bool:
    try:
        redis_client().set(GENERATION, secrets.token_hex(8), ex=GENERATION_SECONDS)
    except redis.RedisError:
        return False
    return True


def _keep_trying() -> None:
    """Redis may be away for us alone: until what it says has expired, it must not be believed."""
    gives_up = time.monotonic() + REDIS_SECONDS
    while time.monotonic() < gives_up and not _begin_generation():
        time.sleep(SECONDS_BETWEEN_TRIES)


def _load() -> Flags:
    try:
        generation, stored = _from_redis()
    except redis.RedisError:
        return _from_rows()
    if stored.pop(BUILT.encode(), b"").decode() == _built(generation):
        return {key.decode(): Flag.read(value) for key, value in stored.items()}
    flags = _from_rows()
    # What this transaction sees may never be committed.
    if not connection.in_atomic_block:
        _store(flags, generation)
    return flags


def _from_redis() -> tuple[str, dict[bytes, bytes]]:
    pipeline = redis_client().pipeline(transaction=True)
    pipeline.get(GENERATION)
    pipeline.hgetall(HASH)
    generation, stored = cast("tuple[bytes | None, dict[bytes, bytes]]", pipeline.execute())
    return (generation or b"").decode(), stored


def _from_rows() -> Flags:
    rows = FeatureFlag.objects.filter(is_active=True).prefetch_related("rules", "variants")
    return {row.key: Flag.of(row) for row in rows}


def _store(flags: Flags, generation: str) -> None:
    pairs: list[Any] = [BUILT, _built(generation)]
    for key, flag in flags.items():
        pairs += [key, orjson.dumps(flag)]
    try:
        redis_client().eval(STORE_IF_UNCHANGED, 2, HASH, GENERATION, generation, REDIS_SECONDS, *pairs)
    except redis.RedisError:
        log.warning("flags_not_stored")


def _built(generation: str) -> str:
    return f"{FORM}:{generation}"
