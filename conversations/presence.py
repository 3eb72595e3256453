"""Who was seen on a channel in the last five minutes: a sorted set for each channel, `active:{channel}`, in Redis.

What asks raises `RedisError`: to say that nobody is there would be wrong.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from redis.client import Pipeline

from accounts.snapshots import redis_client

SECONDS = 300


@dataclass(frozen=True, slots=True)
class Seen:
    user_id: UUID
    at: datetime


@dataclass(frozen=True, slots=True)
class Presence:
    """How many people are active on a channel, and when the last of them was seen; None if nobody is."""

    channel: str
    count: int
    last_seen: datetime | None


def note(pipeline: Pipeline, *, channel: str, user_id: UUID) -> None:
    """Add to what Redis is asked anyway that somebody is there. Those who have gone are taken out on the way."""
    now, name = time.time(), of_channel(channel)
    pipeline.zadd(name, {str(user_id): now})
    pipeline.zremrangebyscore(name, "-inf", now - SECONDS)
    pipeline.expire(name, SECONDS)


def is_active(*, channel: str, user_id: UUID) -> bool:
    seen: Any = redis_client().zscore(of_channel(channel), str(user_id))
    return seen is not None and seen > time.time() - SECONDS


def of(channels: Sequence[str]) -> list[Presence]:
    """In one round trip for all of them."""
    since = f"({time.time() - SECONDS}"
    pipeline = redis_client().pipeline(transaction=False)
    for channel in channels:
        pipeline.zcount(of_channel(channel), since, "+inf")
        pipeline.zrevrangebyscore(of_channel(channel), "+inf", since, start=0, num=1, withscores=True)
    found = iter(pipeline.execute())
    return [
        Presence(channel, count, _instant(latest[0][1]) if latest else None)
        for channel, count, latest in zip(channels, found, found, strict=True)
    ]


def latest(*, channel: str, most: int) -> list[Seen]:
    """Whoever was seen last comes first."""
    since = f"({time.time() - SECONDS}"
    rows: Any = redis_client().zrevrangebyscore(of_channel(channel), "+inf", since, start=0, num=most, withscores=True)
    return [Seen(UUID(member.decode()), _instant(score)) for member, score in rows]


def of_channel(name: str) -> str:
    return f"active:{name}"


def _instant(score: float) -> datetime:
    return datetime.fromtimestamp(score, UTC)
