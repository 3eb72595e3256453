"""The stub as a server: raw asyncio, so that it costs next to nothing beside what is measured against it."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Self, cast

import orjson

from inference.stub.answers import (
    CHUNKS_BEFORE_TROUBLE,
    SECRET,
    STREAM_END,
    STREAM_HEAD,
    Received,
    at_once,
    error,
    event,
    response,
    stream_chunks,
)

Work = Coroutine[Any, Any, None]

NUMBERED = re.compile(r"(slow|paced|error|refuse)-(\d+)")
BROKEN = re.compile(r"(hang|die|garbage)(-stream|-midstream)?")


@dataclass(frozen=True, slots=True)
class ClosedEarly:
    """A client left before its answer was complete, at `at` monotonic seconds."""

    model: str
    at: float


class Connection(asyncio.Protocol):
    """One client. What needs no waiting is answered within `data_received`, without a task, and so is fast."""

    def __init__(self, server: StubServer) -> None:
        self.server = server
        self.rest = b""
        self.model = ""
        self.answering: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.server.connections.discard(self)
        if self.answering is not None:
            self.answering.cancel()
            self.server.closed_early.append(ClosedEarly(self.model, time.monotonic()))

    def drop(self) -> None:
        """Close at once, whatever is being answered."""
        if self.answering is not None:
            self.answering.cancel()
            self.answering = None
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        self.rest += data
        while self.answering is None and (request := self._take()) is not None:
            self.model = request.model
            if self.server.keep_requests and request.body:
                self.server.requests.append(request)
            if (work := self._work(request)) is not None:
                self.answering = asyncio.get_running_loop().create_task(work)
                self.answering.add_done_callback(self._answered)
            else:
                self.transport.write(at_once(request))

    def _take(self) -> Received | None:
        """The next request, if all of it has arrived."""
        end = self.rest.find(b"\r\n\r\n") + 4
        if end < 4:
            return None
        first, *lines = self.rest[: end - 4].decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        after = end + int(headers.get("content-length", 0))
        if len(self.rest) < after:
            return None
        body, self.rest = self.rest[end:after], self.rest[after:]
        return Received(first.split(" ")[1], headers, orjson.loads(body or b"{}"), time.monotonic())

    def _work(self, request: Received) -> Work | None:
        """What is not just answered at once, by the model's name."""
        if found := NUMBERED.fullmatch(self.model):
            number = int(found[2])
            if found[1] in {"error", "refuse"}:
                return self._refuse(found[1], number)
            paced = found[1] == "paced" and request.body.get("stream")
            return self._pace(request, number / 1000) if paced else self._wait(request, number / 1000)
        if found := BROKEN.fullmatch(self.model):
            return self._break(request, found[1], found[2] or "")
        return self._break(request, "end", "-midstream") if self.model == "early-end" else None

    def _answered(self, task: asyncio.Task[None]) -> None:
        if self.answering is task:
            self.answering = None
            self.data_received(b"")

    async def _wait(self, request: Received, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self.transport.write(at_once(request))

    async def _pace(self, request: Received, seconds: float) -> None:
        self.transport.write(STREAM_HEAD)
        for chunk in stream_chunks(request.body):
            await asyncio.sleep(seconds)
            self.transport.write(event(orjson.dumps(chunk)))
        self.transport.write(event(b"[DONE]") + STREAM_END)

    async def _refuse(self, kind: str, status: int) -> None:
        if kind == "error":
            body = error(f"Incorrect API key provided: {SECRET}.", "invalid_api_key")
        else:
            body = error("`temperature` must be at most 2.", "invalid_value", "temperature")
        self.transport.write(response(body, status))

    async def _break(self, request: Received, kind: str, where: str) -> None:
        if where:
            chunks = stream_chunks(request.body)[: CHUNKS_BEFORE_TROUBLE if where == "-midstream" else 0]
            self.transport.write(STREAM_HEAD + b"".join(event(orjson.dumps(chunk)) for chunk in chunks))
            await asyncio.sleep(0.01)  # they shall arrive before the trouble does
        if kind == "hang":
            await asyncio.Event().wait()
        elif kind == "die":
            self.answering = None
            self.transport.close()
        elif kind == "end":
            self.transport.write(STREAM_END)
        else:
            self.transport.write(event(b"{not json") + STREAM_END if where else response(b"<html>no json</html>"))


class StubServer:
    """The server: `with` runs it in a thread of its own, `async with` in the running event loop.

    `requests` and `closed_early` only ever grow, so they may be read from any thread. A process that measures keeps
    neither (`keep_requests=False`).
    """

    def __init__(self, *, port: int = 0, keep_requests: bool = True) -> None:
        self.port = port
        self.keep_requests = keep_requests
        self.requests: list[Received] = []
        self.closed_early: list[ClosedEarly] = []
        self.connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def base_url(self) -> str:
        """What a provider row holds."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def open_connections(self) -> int:
        return len(self.connections)

    def wait_closed_early(self, count: int = 1, *, seconds: float = 5.0) -> list[ClosedEarly]:
        """Wait until `count` clients have left early, and answer all who have; for threads, not for event loops."""
        deadline = time.monotonic() + seconds
        while len(self.closed_early) < count and time.monotonic() < deadline:
            time.sleep(0.005)
        return list(self.closed_early)

    async def start(self) -> None:
        """Listen, in the running event loop."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self), "127.0.0.1", self.port, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close everything; clients that are still here have not left early."""
        if self._server is not None:
            self._server.close()
            for connection in list(self.connections):
                connection.drop()
            while self.connections:  # noqa: ASYNC110 - aborted transports say so in the next round of the loop
                await asyncio.sleep(0)
            await self._server.wait_closed()
            self._server = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.stop()

    def __enter__(self) -> Self:
        loop = self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=loop.run_forever, daemon=True, name="stub")
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.start(), loop).result(10)
        return self

    def __exit__(self, *exception: object) -> None:
        assert self._loop is not None
        assert self._thread is not None
        asyncio.run_coroutine_threadsafe(self.stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
