"""Server-sent events of the caller's own conversations."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any
from weakref import WeakSet

import orjson
from django.conf import settings
from django.http import HttpRequest, StreamingHttpResponse
from redis import RedisError
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from accounts.authentication import require_caller
from accounts.caller import Caller
from accounts.exceptions import DomainError, TooManyRequests
from accounts.scopes import Scope
from conversations import live
from inference.background import in_thread
from inference.replies import STREAM_HEADERS
from inference.views import openai_view
from quotas.throttling import admitted_caller

# So often a silent stream says that it is alive, and each one asks whether its caller may still listen.
HEARTBEAT_SECONDS = 15.0
MOST_STREAMS = 20
RETRY_MILLISECONDS = 2000

BEGINNING = f"retry: {RETRY_MILLISECONDS}\n: listening\n\n".encode()
HEARTBEAT = b": heartbeat\n\n"

_open: WeakSet[Ear] = WeakSet()


def end_all() -> None:
    """At shutdown: end the streams, which would go on for ever; their callers come again."""
    for ear in list(_open):
        ear.stop()


class Ear:
    """One listener's wait for what is told, which can be ended from outside."""

    def __init__(self, listening: PubSub) -> None:
        self.is_stopped = False
        self._listening = listening
        self._patience: asyncio.Timeout | None = None
        _open.add(self)

    async def hear(self, seconds: float) -> dict[str, Any] | None:
        """What is told within so many seconds. Raises `RedisError`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(None) as self._patience:
                message: dict[str, Any] | None = await self._listening.get_message(
                    ignore_subscribe_messages=True, timeout=seconds
                )
                return message
        return None

    def stop(self) -> None:
        self.is_stopped = True
        if self._patience is not None and not self._patience.expired():
            with suppress(RuntimeError):  # it is not waiting, and will see it before it waits again
                self._patience.reschedule(asyncio.get_running_loop().time())


@openai_view("GET", Scope.CONVERSATIONS)
async def events(request: HttpRequest) -> StreamingHttpResponse:
    """What happens in the caller's conversations, from now on, until the caller leaves."""
    caller = await in_thread(lambda: _listener(request))
    return StreamingHttpResponse(_events(request, caller), headers=STREAM_HEADERS)


def _listener(request: HttpRequest) -> Caller:
    caller = admitted_caller(request)
    if live.listeners(caller.user_id) >= MOST_STREAMS:
        raise TooManyRequests(f"You have {MOST_STREAMS} streams open already.", retry_after=int(HEARTBEAT_SECONDS))
    return caller


async def _events(request: HttpRequest, caller: Caller) -> AsyncIterator[bytes]:
    """A connection to Redis of its own, and none to the database. A Redis that is lost ends it: what is missed
    meanwhile would be missed for good.
    """
    redis = Redis.from_url(settings.REDIS_URL, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0))
    listening = redis.pubsub()
    ear = Ear(listening)
    try:
        await listening.subscribe(live.of_user(caller.user_id))
        await listening.get_message(timeout=1)
        yield BEGINNING
        async for told in _told(request, ear):
            yield told
    except (RedisError, OSError, asyncio.IncompleteReadError):
        yield _error("Live events are not available. Try again.", "api_error", "service_unavailable")
    except DomainError as refusal:
        yield _error(str(refusal), "authentication_error", refusal.code)
    finally:
        await listening.aclose()  # type: ignore[no-untyped-call]
        await redis.aclose()


async def _told(request: HttpRequest, ear: Ear) -> AsyncIterator[bytes]:
    """Raises `RedisError`, and `DomainError` once the caller's credential is not good for it any more."""
    checks_at = time.monotonic() + HEARTBEAT_SECONDS
    while not ear.is_stopped:
        message = await ear.hear(max(0.0, checks_at - time.monotonic()))
        if message is not None:
            yield _event(message["data"])
        elif time.monotonic() >= checks_at:
            await in_thread(lambda: require_caller(request))
            checks_at = time.monotonic() + HEARTBEAT_SECONDS
            yield HEARTBEAT


def _event(told: bytes) -> bytes:
    data = orjson.loads(told)
    return f"event: {data.pop('event')}\ndata: ".encode() + orjson.dumps(data) + b"\n\n"


def _error(message: str, kind: str, code: str) -> bytes:
    body = {"error": {"message": message, "type": kind, "param": None, "code": code}}
    return b"event: error\ndata: " + orjson.dumps(body) + b"\n\n"
