"""Django's ASGI handler, cut down for the asynchronous views of `/v1`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, get_script_prefix
from django.http import HttpRequest
from django.urls import set_script_prefix

Scope = dict[str, Any]
Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class RoadHandler(ASGIHandler):
    """Serves asynchronous views only, which saves what Django does for synchronous ones at each request.

    Django's own handler makes a thread for each request and hops into it for `request_started` and `response.close`:
    about 1 ms. Here nothing runs in a thread but what a view sends there itself, so connections and caches that belong
    to a request's thread, which those signals tidy up, do not exist. `response.close` is called in the event loop,
    always once there is a response: an `Exchange` depends on it to notice callers who leave.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = await self.read_body(receive)
        except RequestAborted:
            return
        set_script_prefix(get_script_prefix(scope))
        request, refusal = self.create_request(scope, body)
        if request is None:
            assert refusal is not None
            await self.send_response(refusal, send)
            return
        answering = asyncio.ensure_future(self._answer(request, send))
        leaving = asyncio.ensure_future(self._wait_until_gone(receive))
        try:
            await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            gone = not answering.done()
            answering.cancel()
            with suppress(asyncio.CancelledError):
                await answering
            if not gone:
                answering.result()
            body.close()

    async def _answer(self, request: HttpRequest, send: Send) -> None:
        response = await self.run_get_response(request)
        try:
            await self.send_response(response, send)
        finally:
            response.close()

    async def _wait_until_gone(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
