"""The one adapter to model servers: the OpenAI HTTP protocol over a pooled client, one client per event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

import aiohttp
import orjson
from yarl import URL

from inference.exceptions import UpstreamError, UpstreamRefused, UpstreamTimeout
from inference.routes import Route

PATHS = {"llm": "/chat/completions", "embedding": "/embeddings"}

# Refusals that are the caller's to mend. All others (a wrong provider key, a wrong upstream name, an overloaded
# server …) are the installation's: the next route is tried, and the caller never sees the details.
CALLERS_FAULT = frozenset({400, 413, 415, 422})

MOST_BYTES = 64 * 1024 * 1024

_sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, aiohttp.ClientSession] = WeakKeyDictionary()


def session() -> aiohttp.ClientSession:
    """This event loop's client. Connections are kept alive; the number of open streams is not limited here."""
    loop = asyncio.get_running_loop()
    found = _sessions.get(loop)
    if found is None or found.closed:
        found = _sessions[loop] = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=True,
        )
    return found


async def close_session() -> None:
    """Close this event loop's client, at shutdown."""
    found = _sessions.pop(asyncio.get_running_loop(), None)
    if found is not None:
        await found.close()


@asynccontextmanager
async def post(route: Route, payload: dict[str, Any]) -> AsyncIterator[aiohttp.ClientResponse]:
    """POST `payload` to a route and hand over its 200 answer with the body unread.

    Raises `UpstreamRefused` when the caller must change the payload, `UpstreamError` on everything else, also from
    reads inside the block.
    """
    url, headers, timeout = _address(route)
    body = orjson.dumps({**payload, "model": route.upstream_name})
    try:
        async with session().post(url, data=body, headers=headers, timeout=timeout, allow_redirects=False) as response:
            if response.status != 200:
                raise await _refusal(response, route)
            yield response
    except aiohttp.ServerTimeoutError:
        raise UpstreamTimeout from None
    except (aiohttp.ClientError, ConnectionError, TimeoutError, ValueError) as error:
        raise UpstreamError(f"The model server of {route.name} failed ({type(error).__name__}).") from error


@lru_cache(maxsize=256)
def _address(route: Route) -> tuple[URL, dict[str, str], aiohttp.ClientTimeout]:
    """What every call to a route has in common."""
    headers = {"Content-Type": "application/json"}
    if route.api_key:
        headers["Authorization"] = f"Bearer {route.api_key}"
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=route.connect_timeout, sock_read=route.read_timeout)
    return URL(route.base_url + PATHS[route.kind]), headers, timeout


async def read_json(response: aiohttp.ClientResponse) -> dict[str, Any]:
    """The whole answer as an object; `UpstreamError` if it is anything else."""
    body = await _read_bounded(response)
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise UpstreamError("The model server did not answer with JSON.") from None
    if not isinstance(value, dict) or "error" in value:
        raise UpstreamError("The model server answered with something unexpected.")
    return value


async def read_events(response: aiohttp.ClientResponse) -> AsyncGenerator[list[dict[str, Any] | None], None]:
    """Server-sent events, as many at a time as have arrived; None stands for `[DONE]`.

    `UpstreamError` if the answer is not an event stream, or an event is not a JSON object.
    """
    if response.content_type != "text/event-stream":
        raise UpstreamError("The model server did not answer with an event stream.")
    rest = b""
    async for data in response.content.iter_any():
        # A chunk may end inside of CR LF; whole lines are what counts, so CR is dropped wherever it stands.
        *lines, rest = (rest + data.replace(b"\r", b"")).split(b"\n")
        if len(rest) > MOST_BYTES:
            raise UpstreamError("The model server sent an event without end.")
        events = [_event(line[5:].strip()) for line in lines if line.startswith(b"data:")]
        if events:
            yield events


def _event(data: bytes) -> dict[str, Any] | None:
    if data == b"[DONE]":
        return None
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise UpstreamError("The model server sent an event that is not JSON.") from None
    if not isinstance(value, dict):
        raise UpstreamError("The model server sent an event that is not an object.")
    if "error" in value:
        raise UpstreamError("The model server reported an error.")
    return value


async def _read_bounded(response: aiohttp.ClientResponse) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for data in response.content.iter_any():
        size += len(data)
        if size > MOST_BYTES:
            raise UpstreamError("The model server's answer is too large.")
        parts.append(data)
    return b"".join(parts)


async def _refusal(response: aiohttp.ClientResponse, route: Route) -> UpstreamError:
    if response.status not in CALLERS_FAULT:
        return UpstreamError(
            f"The model server of {route.name} answered {response.status}.",
            code="upstream_overloaded" if response.status in {429, 503} else None,
        )
    try:
        error = orjson.loads(await response.content.read(65_536))["error"]
        message, code, param = error["message"], error.get("code"), error.get("param")
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        message, code, param = "The model server refused the request.", None, None
    return UpstreamRefused(
        response.status,
        str(message)[:2000],
        code=code if isinstance(code, str) else None,
        param=param if isinstance(param, str) else None,
    )
