"""What Redis remembers of who calls, so that a warm call is authenticated without SQL.

A snapshot is at most AUTH_SNAPSHOT_SECONDS old, and any change drops it at once. A process that read the old row just
before the change must not bring it back after the drop; so each user has a generation, a random text that every drop
replaces, and a snapshot counts only under the generation that was read before its row was. And a Redis that was away
when something was dropped must not bring it back from its file; so a snapshot counts only in the run that stored it.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, cast
from uuid import UUID

import orjson
import redis
import structlog
from django.conf import settings
from django.db import transaction
from redis.backoff import NoBackoff
from redis.retry import Retry

from accounts.models import ApiKey, ChannelIdentity, User

log = structlog.get_logger(__name__)

STORE_IF_UNCHANGED = """
if (redis.call('GET', KEYS[2]) or '') == ARGV[1] then
    redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
end
"""
GENERATION_SECONDS = 24 * 3600
SECONDS_BETWEEN_TRIES = 0.5
# After Redis has failed to answer, PostgreSQL is asked alone for so long.
SECONDS_NOT_ASKED = 1.0


# Asks Redis for what it keeps under these names; raises `RedisError`.
Read = Callable[[Sequence[str]], list[bytes | None]]


class RedisClient(redis.Redis):
    """A client that knows which run of the server it talks to, and whether the server has just failed to answer."""

    run_id = ""
    away_until = 0.0

    @property
    def is_away(self) -> bool:
        return time.monotonic() < self.away_until

    def leave_alone(self) -> None:
        """For a moment: a server that hangs would hold up every question of every call."""
        self.away_until = time.monotonic() + SECONDS_NOT_ASKED


@lru_cache(maxsize=1)
def redis_client() -> RedisClient:
    """The process's synchronous Redis client, for what is not Django's cache."""

    def greet(connection: Any) -> None:
        connection.on_connect()
        connection.send_command("INFO", "server")
        answer: bytes = connection.read_response()
        client.run_id = answer.decode().partition("run_id:")[2].split()[0]

    # PostgreSQL answers when Redis does not: waiting and trying again would only hold the caller up. The one retry is
    # for a connection that was open when Redis was started anew.
    retry = Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,))
    options = {"socket_timeout": 1, "socket_connect_timeout": 1, "retry": retry, "redis_connect_func": greet}
    client = cast("RedisClient", RedisClient.from_url(settings.REDIS_URL, **options))
    return client


def of_key(prefix: str) -> str:
    return f"auth:key:{prefix}"


def of_session(session_id: UUID) -> str:
    return f"auth:session:{session_id}"


def of_person(name: str) -> str:
    """`name` is what `X-On-Behalf-Of` says: `discord:1234`, or a user's id."""
    return f"auth:person:{name}"


def of_generation(user_id: UUID) -> str:
    return f"auth:generation:{user_id}"


def read(*names: str, by: Read | None = None) -> list[dict[str, Any] | None]:
    """The snapshots of these names, in one round trip; None for what is not there, or while Redis is away.

    `by` may ask Redis for something else on the same way.
    """
    return [_believed(value) for value in _values(*names, by=by)]


def read_session(session_id: UUID, user_id: UUID, *, by: Read | None = None) -> dict[str, Any] | None:
    """The snapshot of a session, if nothing about its user has changed since it was stored."""
    value, generation = _values(of_session(session_id), of_generation(user_id), by=by)
    found = _believed(value)
    return found if found and found["generation"] == (generation or b"").decode() else None


def generation_of(user_id: UUID) -> str:
    """To be read before the rows that a snapshot is made of."""
    return (_values(of_generation(user_id))[0] or b"").decode()


def store(name: str, found: dict[str, Any], *, generation: str) -> None:
    """Keep a snapshot, unless its user has changed since `generation` was read."""
    client = redis_client()
    if client.is_away:
        return
    kept = orjson.dumps(found | {"generation": generation, "run_id": client.run_id})
    with contextlib.suppress(redis.RedisError):
        client.eval(
            *(STORE_IF_UNCHANGED, 2, name, of_generation(found["user_id"])),
            *(generation, kept, settings.AUTH_SNAPSHOT_SECONDS),
        )


def drop_snapshots(user_id: UUID, *, also: Iterable[str] = ()) -> None:
    """Once the running transaction commits, forget everything that Redis says about a user.

    `also` names snapshots of rows that the transaction removes, and that could not be listed afterwards.
    """

    def drop() -> None:
        names = [*names_of(user_id), *also]
        if not _forget(user_id, names):
            log.warning("auth_snapshot_not_dropped", user_id=str(user_id))
            threading.Thread(target=_keep_trying, args=(user_id, names), daemon=True).start()

    transaction.on_commit(drop)


def names_of(user_id: UUID) -> list[str]:
    """Every snapshot that speaks of a user, but those of sessions: these go by the generation."""
    prefixes = ApiKey.objects.filter(user_id=user_id).values_list("prefix", "previous_prefix")
    identities = ChannelIdentity.objects.filter(user_id=user_id).values_list("channel_type", "channel_user_id")
    aliases = User.objects.filter(merged_into=user_id).values_list("pk", flat=True)
    return [
        *(of_key(prefix) for pair in prefixes for prefix in pair if prefix),
        *(of_person(f"{channel_type}:{channel_user_id}") for channel_type, channel_user_id in identities),
        *(of_person(str(person)) for person in (user_id, *aliases)),
    ]


def _forget(user_id: UUID, names: list[str]) -> bool:
    pipe = redis_client().pipeline()
    pipe.set(of_generation(user_id), secrets.token_hex(8), ex=GENERATION_SECONDS)
    pipe.delete(*names)
    try:
        pipe.execute()
    except redis.RedisError:
        return False
    return True


def _keep_trying(user_id: UUID, names: list[str]) -> None:
    """Redis may come back, or may be away for us alone: until what it says has expired, it must not be believed."""
    gives_up = time.monotonic() + settings.AUTH_SNAPSHOT_SECONDS
    while time.monotonic() < gives_up and not _forget(user_id, names):
        time.sleep(SECONDS_BETWEEN_TRIES)


def _believed(value: bytes | None) -> dict[str, Any] | None:
    """What a snapshot says, if this run of the server has kept it: one that comes back from a file may have missed
    that it was dropped.
    """
    found: dict[str, Any] | None = orjson.loads(value) if value else None
    return found if found and found["run_id"] == redis_client().run_id else None


def read_values(names: Sequence[str]) -> list[bytes | None]:
    """What Redis keeps under these names. Raises `RedisError`."""
    return cast("list[bytes | None]", redis_client().mget(names))


def _values(*names: str, by: Read | None = None) -> list[bytes | None]:
    client = redis_client()
    if not client.is_away:
        try:
            return (by or read_values)(names)
        except redis.RedisError:
            client.leave_alone()
    return [None] * len(names)
