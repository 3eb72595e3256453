"""The web process: Django, with a check before it serves and a wait for open settlements before it ends."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

from django.core.asgi import get_asgi_application

django_application = get_asgi_application()

import structlog
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, connection

from accounts.encryption import cipher
from accounts.ids import uuid7
from config import health
from config.errors import failure_of
from config.handlers import Message, Receive, RoadHandler, Scope, Send
from config.serve import STARTUP_FAILURE
from inference import background, exchange, upstream
from inference.exceptions import BodyTooLarge

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


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
        return
    handler = road_application if scope["path"].startswith("/v1/") else django_application
    declared = next((value for name, value in scope["headers"] if name == b"content-length"), None)
    if declared is not None and declared.isdigit():
        if int(declared) > settings.MAX_BODY_BYTES:
            await _refuse_body(scope, send)
        else:
            await handler(scope, receive, send)
        return
    body = LimitedBody(receive)
    await handler(scope, body.receive, send)
    if body.too_large:
        await _refuse_body(scope, send)


class LimitedBody:
    """The `receive` of a request that does not say how large it is: it breaks off when MAX_BODY_BYTES are passed.

    Django then drops the request without a word, and 413 is still to be answered.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._received = 0
        self.too_large = False

    async def receive(self) -> Message:
        message = await self._receive()
        self._received += len(message.get("body", b""))
        if self._received > settings.MAX_BODY_BYTES:
            self.too_large = True
            return {"type": "http.disconnect"}
        return message


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        else:
            await exchange.end_all()
            await background.drain()
            await upstream.close_session()
            await send({"type": "lifespan.shutdown.complete"})
            return


async def _refuse_body(scope: Scope, send: Send) -> None:
    """Answer before the rest of the body is read: it would only be thrown away."""
    failure = failure_of(BodyTooLarge())
    assert failure is not None
    request_id = uuid7().hex
    log.info("request", request_id=request_id, method=scope["method"], path=scope["path"], status=failure.status)
    headers = [
        (b"content-type", b"application/json"),
        (b"x-request-id", request_id.encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": failure.status, "headers": headers})
    await send({"type": "http.response.body", "body": failure.response().content})
