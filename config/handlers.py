"""Django's ASGI handler, cut down for the asynchronous views of `/v1`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, get_script_prefix
from django.core.handlers.exception import convert_exception_to_response
from django.http import HttpRequest
from django.urls import set_script_prefix

from config.cors import with_cors
from config.middleware import RequestMiddleware

Scope = dict[str, Any]
Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class RoadHandler(ASGIHandler):
    """Serves asynchronous views only, which saves what Django does for synchronous ones at each request.

    Django's own handler makes a thread for each request and hops into it for `request_started` and `response.close`:
    about 1 ms. Here nothing runs in a thread but what a view sends there itself, so connections and caches that belong
    to a request's thread, which those signals tidy up, do not exist; and of the middleware only the outermost and that
    for other origins are there, since the others are for pages. `response.close` is called in the event loop, always
    once there is a stream: an `Exchange` depends on it to notice callers who leave.
    """

    def load_middleware(self, is_async: bool = False) -> None:
        self._view_middleware: list[Any] = []
        self._template_response_middleware: list[Any] = []
        views = convert_exception_to_response(self._get_response_async)  # type: ignore[attr-defined]
        middleware = RequestMiddleware(with_cors(views))
        self._exception_middleware: list[Any] = [middleware.process_exception]
        self._middleware_chain = convert_exception_to_response(middleware)

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
        answering = asyncio.current_task()
        assert answering is not None
        leaving = asyncio.create_task(_cancel_when_gone(receive, answering))
        try:
            await self._answer(request, send)
        except asyncio.CancelledError:
            if not leaving.done():
                raise
        finally:
            leaving.cancel()
            body.close()

    async def _answer(self, request: HttpRequest, send: Send) -> None:
        response = await self.run_get_response(request)
        try:
            await self.send_response(response, send)
        finally:
            if response.streaming:
                response.close()


async def _cancel_when_gone(receive: Receive, answering: asyncio.Task[Any]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    answering.cancel()
