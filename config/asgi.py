"""The web process: Django, with a check before it serves and a wait for open settlements before it ends."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

from django.core.asgi import get_asgi_application

django_application = get_asgi_application()

from django.conf import settings
from django.db import OperationalError, connection

from config import health
from config.errors import failure_of
from config.handlers import Message, Receive, RoadHandler, Scope, Send
from inference import background, upstream
from inference.exceptions import BodyTooLarge


def refusal_to_serve() -> str | None:
    """Why this process must not serve, in one sentence; None if it may."""
    if not settings.DEBUG and (names := health.default_secrets()):
        return f"Set {', '.join(names)}: outside of debug mode the default values are refused."
    try:
        missing = health.unapplied_migrations()
    except OperationalError as error:
        return f"PostgreSQL cannot be reached: {str(error).splitlines()[0]}"
    finally:
        connection.close()
    return f"Run `manage.py migrate` first: {len(missing)} migrations are not applied." if missing else None


# Servers may import this module inside of a running event loop, where Django refuses to ask a database.
with ThreadPoolExecutor(1) as thread:
    reason = thread.submit(refusal_to_serve).result()
if reason:
    sys.exit(f"mainstay: {reason}")

road_application = RoadHandler()


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
        return
    body = LimitedBody(scope, receive)
    if not body.too_large:
        handler = road_application if scope["path"].startswith("/v1/") else django_application
        await handler(scope, body.receive, send)
    if body.too_large:
        await _refuse_body(send)


class LimitedBody:
    """A request's `receive` that breaks off when the body grows over MAX_BODY_BYTES.

    Django then drops the request without a word, and 413 is still to be answered.
    """

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._receive = receive
        self._received = 0
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        self.too_large = declared.isdigit() and int(declared) > settings.MAX_BODY_BYTES

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
            await background.drain()
            await upstream.close_session()
            await send({"type": "lifespan.shutdown.complete"})
            return


async def _refuse_body(send: Send) -> None:
    """Answer before the rest of the body is read: it would only be thrown away."""
    failure = failure_of(BodyTooLarge())
    assert failure is not None
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": failure.status, "headers": headers})
    await send({"type": "http.response.body", "body": failure.response().content})
