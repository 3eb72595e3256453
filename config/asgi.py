"""The web process: Django, with a check before it serves and a wait for open settlements before it ends."""

from __future__ import annotations

import asyncio
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

from django.core.asgi import get_asgi_application

django_application = get_asgi_application()

import structlog
from django.conf import settings
from django.core.exceptions import BadRequest, ImproperlyConfigured
from django.core.handlers.asgi import ASGIRequest
from django.db import OperationalError, connection

from accounts.encryption import cipher
from accounts.ids import uuid7
from config import health, stopping
from config.cors import with_cors
from config.errors import failure_of
from config.handlers import Message, Receive, RoadHandler, Scope, Send
from config.serve import STARTUP_FAILURE
from conversations import live_views
from inference import background, exchange, upstream
from inference.exceptions import BodyTooLarge
from quotas import used_tokens

log = structlog.get_logger("mainstay.request")


def refusal_to_serve() -> str | None:
    """Why this process must not serve, in one sentence; None if it may."""
    if not settings.DEBUG and (names := health.default_secrets()):
        return f"Set {', '.join(names)}: outside of debug mode the default values are refused."
    try:
        cipher()
        missing = health.unapplied_migrations()
    except ImproperlyConfigured as error:
        return str(error)
    except OperationalError as error:
        return f"PostgreSQL cannot be reached: {str(error).splitlines()[0]}"
    finally:
        connection.close()
    return f"Run `manage.py migrate` first: {len(missing)} migrations are not applied." if missing else None


# Servers may import this module inside of a running event loop, where Django refuses to ask a database.
with ThreadPoolExecutor(1) as thread:
    reason = thread.submit(refusal_to_serve).result()
if reason:
    print(f"mainstay: {reason}", file=sys.stderr)  # noqa: T201 - for the person who starts us
    sys.exit(STARTUP_FAILURE)

road_application = RoadHandler()
stopping.at_once.append(live_views.end_all)
stopping.before_cut_off.append(exchange.stop_all)


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
        return
    if not _is_utf8(scope["query_string"]):
        await _refuse(scope, send, BadRequest("The query is not UTF-8."))
        return
    handler = road_application if scope["path"].startswith("/v1/") else django_application
    length = _declared_length(scope)
    if length is None:
        scope, receive = await _measured(scope, receive)
        length = _declared_length(scope) or 0
    if length > settings.MAX_BODY_BYTES:
        # Answered before the rest of the body is read: it would only be thrown away.
        await _refuse(scope, send, BodyTooLarge())
        return
    await handler(scope, receive, send)


def _declared_length(scope: Scope) -> int | None:
    declared = next((value for name, value in scope["headers"] if name == b"content-length"), None)
    return int(declared) if declared is not None and declared.isdigit() else None


async def _measured(scope: Scope, receive: Receive) -> tuple[Scope, Receive]:
    """A request that does not say how large it is (`Transfer-Encoding: chunked`), read and saying it.

    DRF takes a body of undeclared length for none at all. No more is read than what shows that it is too large.
    """
    body = bytearray()
    more = True
    while more and len(body) <= settings.MAX_BODY_BYTES:
        message = await receive()
        if message["type"] == "http.disconnect":
            return scope, _replay(message, receive)
        body += message.get("body", b"")
        more = message.get("more_body", False)
    if body:
        scope = {**scope, "headers": [*scope["headers"], (b"content-length", str(len(body)).encode())]}
    return scope, _replay({"type": "http.request", "body": bytes(body), "more_body": False}, receive)


def _replay(first: Message, receive: Receive) -> Receive:
    pending = [first]

    async def next_message() -> Message:
        return pending.pop() if pending else await receive()

    return next_message


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        else:
            await exchange.end_all()
            await background.drain()
            await asyncio.to_thread(used_tokens.flush)
            await upstream.close_session()
            await send({"type": "lifespan.shutdown.complete"})
            return


def _is_utf8(query: bytes) -> bool:
    try:
        query.decode()
    except UnicodeDecodeError:
        return False
    return True


async def _refuse(scope: Scope, send: Send, error: Exception) -> None:
    """Answer what Django would drop without a word, or answer in a shape of its own."""
    failure = failure_of(error)
    assert failure is not None
    request_id = uuid7().hex
    log.info("request", request_id=request_id, method=scope["method"], path=scope["path"], status=failure.status)
    request = ASGIRequest({**scope, "query_string": b""}, BytesIO())
    response = with_cors(failure.response)(request)
    response["X-Request-ID"], response["Connection"] = request_id, "close"
    headers = [(name.lower().encode(), value.encode()) for name, value in response.items()]
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": response.content})
