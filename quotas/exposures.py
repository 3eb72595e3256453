"""How many users got which variant of a flag: each user once a day (UTC), flag and variant.

Redis holds the users of a day as a set for each variant, and the task `flush_exposures` writes down how many they are.
A process tells Redis of a user again only after NOTED_SECONDS, so that most reads of a flag write nothing. Without
Redis nothing is counted. If it loses its sets, the figures that are written down stay, and grow again once the day's
new sets are larger: nobody is counted twice.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any, cast
from uuid import UUID

import redis
import structlog
from django.db import connection, transaction
from django.utils import timezone

from accounts.ids import uuid7
from accounts.snapshots import redis_client

log = structlog.get_logger(__name__)

# The names of all sets, `day:flag:variant`.
INDEX = "features:exposures"
SET_SECONDS = 3 * 24 * 3600
# A set may still grow for a while when its day is over: clocks differ, and calls take their time.
KEPT_DAYS = 1
MOST_NOTED = 100_000
NOTED_SECONDS = 300.0
SECONDS_WITHOUT_REDIS = 5.0

# Only ever up, so writing the same down again changes nothing. A flag that was deleted gets no row.
WRITE_DOWN = """
INSERT INTO quotas_flagexposure (id, flag_id, variant, day, users)
SELECT %(id)s, flag.id, %(variant)s, %(day)s, %(users)s
FROM quotas_featureflag flag WHERE flag.id = %(flag)s FOR KEY SHARE
ON CONFLICT (flag_id, day, variant) DO UPDATE SET users = excluded.users
WHERE quotas_flagexposure.users < excluded.users
"""

# When each was told to Redis, and until when Redis is left alone.
_noted: dict[tuple[str, UUID], float] = {}
_pause: dict[str, float] = {}


def note(user_id: UUID, variants: Mapping[str, str]) -> None:
    """That a user got these variants, keyed by the id of their flag."""
    today = timezone.now().date()
    names = [f"{today}:{flag_id}:{variant}" for flag_id, variant in variants.items()]
    now = time.monotonic()
    new = [name for name in names if _noted.get((name, user_id), -NOTED_SECONDS) + NOTED_SECONDS <= now]
    if not new or now < _pause.get(INDEX, 0):
        return
    pipeline = redis_client().pipeline(transaction=False)
    pipeline.sadd(INDEX, *new)
    for name in new:
        pipeline.sadd(_key(name), user_id.bytes)
        pipeline.expire(_key(name), SET_SECONDS)
    try:
        pipeline.execute()
    except redis.RedisError:
        # Whoever waits for an answer shall not wait for this each time.
        _pause[INDEX] = now + SECONDS_WITHOUT_REDIS
        return
    if len(_noted) >= MOST_NOTED:
        _noted.clear()
    _noted.update(((name, user_id), now) for name in new)


def flush() -> int:
    """Write down how many users each variant has had each day; how many sets there were. May be repeated at will."""
    try:
        counted = _counted()
    except redis.RedisError:
        log.warning("exposures_not_read")
        return 0
    with transaction.atomic(), connection.cursor() as cursor:
        for name, users in sorted(counted.items()):
            day, flag_id, variant = name.split(":")
            values: dict[str, Any] = {"id": uuid7(), "flag": flag_id, "variant": variant, "day": day, "users": users}
            if users:
                cursor.execute(WRITE_DOWN, values)
    _remove_old(list(counted))
    return len(counted)


def forget_noted() -> None:
    """Let this process tell Redis anew of whom it has told already."""
    _noted.clear()
    _pause.clear()


def _counted() -> dict[str, int]:
    members = cast("set[bytes]", redis_client().smembers(INDEX))
    names = sorted(member.decode() for member in members)
    pipeline = redis_client().pipeline(transaction=False)
    for name in names:
        pipeline.scard(_key(name))
    return dict(zip(names, pipeline.execute(), strict=True))


def _remove_old(names: list[str]) -> None:
    last = timezone.now().date() - timedelta(days=KEPT_DAYS)
    old = [name for name in names if date.fromisoformat(name.partition(":")[0]) < last]
    if not old:
        return
    pipeline = redis_client().pipeline(transaction=False)
    pipeline.srem(INDEX, *old)
    pipeline.delete(*map(_key, old))
    try:
        pipeline.execute()
    except redis.RedisError:
        log.warning("old_exposures_not_removed", sets=len(old))


def _key(name: str) -> str:
    return f"{INDEX}:{name}"
