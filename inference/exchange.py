"""The asynchronous middle of the metered road: between the two transactions, no database connection is held.

Whatever ends a call (the last byte, a failure, a deadline, a caller who leaves at any moment) is written to its
outcome, and the settlement then runs in a task of its own, which the request's cancellation does not reach.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, suppress
from typing import Any, Protocol
from weakref import WeakSet

import orjson
import structlog
from django.conf import settings
from django.db import InterfaceError, OperationalError

from inference import upstream
from inference.background import in_background, in_thread
from inference.exceptions import ServerStopping, UpstreamError, UpstreamRefused, UpstreamTimeout
from inference.payloads import estimate_tokens
from inference.replies import DONE, STREAM_HEADERS, StreamedReply, TokenUsage, reported_usage, text_of
from inference.routes import Route
from inference.services import CLIENT_DISCONNECTED, DEADLINE, UPSTREAM_ERROR, Call, Status, Usage
from quotas.idempotency import JSON_HEADERS, Answer

Payload = dict[str, Any]

log = structlog.get_logger(__name__)

# Seconds between attempts to settle while the database is away; after them, the sweeper settles.
SETTLE_PAUSES = (0.2, 0.5, 1, 2, 4, 8, 8, 8)

_open: WeakSet[Exchange] = WeakSet()


class Opened(Protocol):
    """What opening a call answers: the call, and how to settle it and all that belongs to it."""

    @property
    def call(self) -> Call: ...

    def settle(self) -> None: ...


async def begin(open_call: Callable[[], Opened]) -> Exchange:
    """Open a call in a thread. If the caller leaves meanwhile, what was opened is settled all the same."""
    opening = in_thread(open_call)
    try:
        return Exchange(await asyncio.shield(opening))
    except asyncio.CancelledError:
        in_background(_abandon_opening(opening))
        raise


def stop_all() -> None:
    """At the end of the patience with open calls: stop them, so that their callers are told."""
    for exchange in list(_open):
        exchange.stop()


async def end_all(seconds: float = 2.0) -> None:
    """At shutdown: end the calls that are still open, as if their callers had left.

    The server has cancelled their requests by now; those are given a moment to notice it by themselves.
    """
    ends = time.monotonic() + seconds
    while _open and time.monotonic() < ends:
        for exchange in list(_open):
            if exchange.outlives_caller:
                exchange.stop()
            else:
                exchange.close()
        await asyncio.sleep(0.02)


async def _abandon_opening(opening: asyncio.Future[Opened]) -> None:
    await asyncio.wait([opening])
    if opening.exception() is None:
        await Exchange(opening.result()).abandon()


class Exchange:
    """An open call on its way: ask for the whole `answer`, or `start` it and iterate over its bytes.

    Django calls `close` when the response is over, however it ended; on a stream that has not ended by itself this
    is how a caller who left is noticed.

    A caller with an idempotency key has said that it will ask again: if it leaves, the call goes on to its end, and the
    answer is kept. Who leaves before anything was asked of a model costs nothing, and the key is free.
    """

    def __init__(self, opened: Opened) -> None:
        self.opened = opened
        self.call = opened.call
        self.reply: StreamedReply | None = None
        self._loop = asyncio.get_running_loop()
        self._settling: asyncio.Future[None] | None = None
        self._chunks: AsyncGenerator[bytes, None] | None = None
        self._first: bytes | None = None
        self._patience: asyncio.Timeout | None = None
        self._stopping = False
        self.outlives_caller = False
        self._kept = bytearray()
        _open.add(self)

    # Whole answers ---------------------------------------------------------------------------------------------

    async def answer(self, shape: Callable[[Payload], Payload] = lambda value: value) -> Payload:
        """The model's whole answer, after it has been settled. Raises `UpstreamError`.

        `shape` checks and converts what a route answers; when it raises, the next route is tried.
        """
        if self.call.claim is not None:
            self.outlives_caller = True
            return await asyncio.shield(in_background(self._answered(shape), told=UpstreamError))
        try:
            return await self._answered(shape)
        except asyncio.CancelledError:
            in_background(self.abandon())
            raise

    async def _answered(self, shape: Callable[[Payload], Payload]) -> Payload:
        outcome = self.call.outcome
        try:
            async with asyncio.timeout(self._seconds_left()) as self._patience:
                value = await self._ask(shape)
        except TimeoutError:
            raise await self._failed(self._out_of_time()) from None
        except UpstreamError as error:
            raise await self._failed(error) from error
        outcome.status = Status.SUCCESS
        self._account(reported_usage(value.get("usage")), estimate_tokens(orjson.dumps(value.get("choices", ""))))
        outcome.response, outcome.text = value, text_of(value)
        if "model" in value:
            value["model"] = self.call.model
        if self.call.claim is not None:
            outcome.answer = Answer(200, JSON_HEADERS, orjson.dumps(value))
        await self._settled()
        return value

    async def _ask(self, shape: Callable[[Payload], Payload]) -> Payload:
        failure: UpstreamError | None = None
        for route in self.call.routes:
            try:
                async with upstream.post(route, _payload_for(self.call, route)) as response:
                    value = shape(await upstream.read_json(response))
            except UpstreamRefused:
                raise
            except UpstreamError as error:
                failure = error
                continue
            self._answered_by(route)
            return value
        raise failure or UpstreamError

    # Streams ---------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Wait for the first bytes. Raises `UpstreamError` if no route gets as far as that."""
        self.outlives_caller = self.call.claim is not None
        self._chunks = self._relay_apart() if self.outlives_caller else self._relay()
        try:
            self._first = await anext(self._chunks)
        except asyncio.CancelledError:
            in_background(self.abandon())
            raise

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        assert self._chunks is not None, "start() comes first"
        if self._first is not None:
            first, self._first = self._first, None
            return first
        return await anext(self._chunks)

    def close(self) -> None:
        """The response is over. May be called from any thread, and more than once."""
        if self._settling is None:
            with suppress(RuntimeError):  # the loop is closed: the process is going down, the sweeper settles
                self._loop.call_soon_threadsafe(self._closed)

    def _closed(self) -> None:
        if self._settling is None:
            in_background(self.abandon())

    async def _relay_apart(self) -> AsyncGenerator[bytes, None]:
        """The same bytes, taken by a task that goes on when nobody takes them from here any more."""
        taken: asyncio.Queue[bytes | None] = asyncio.Queue()

        async def take() -> None:
            try:
                async for data in self._relay():
                    taken.put_nowait(data)
            finally:
                taken.put_nowait(None)

        taking = in_background(take(), told=UpstreamError)
        while (data := await taken.get()) is not None:
            yield data
        await taking

    async def _relay(self) -> AsyncGenerator[bytes, None]:
        reply = self.reply = StreamedReply(model=self.call.model, include_usage=_wants_usage(self.call.payload))
        prologue = self.call.prologue
        failure: UpstreamError | None = None
        try:
            async with aclosing(self._events()) as batches:
                while not reply.done:
                    async with asyncio.timeout(self._seconds_left()) as self._patience:
                        events = await anext(batches, None)
                    if events is None:
                        break
                    if data := reply.take(events):
                        data, prologue = prologue + data, b""
                        self._keep(data)
                        yield data
            reply.finish()
        except TimeoutError:
            failure = self._out_of_time()
        except UpstreamError as error:
            failure = error
        if failure is None:
            self.call.outcome.status = Status.SUCCESS
            self._account_reply(reply)
            self._keep(DONE)
            await self._settled()
            yield DONE
            return
        self._keep(_error_event(failure))
        failure = await self._failed(failure)
        if self.call.outcome.first_byte is None:
            raise failure
        yield _error_event(failure)

    async def _events(self) -> AsyncGenerator[list[dict[str, Any] | None], None]:
        failure: UpstreamError | None = None
        for route in self.call.routes:
            answered = False
            try:
                async with (
                    upstream.post(route, _payload_for(self.call, route)) as response,
                    aclosing(upstream.read_events(response)) as batches,
                ):
                    async for events in batches:
                        if not answered:
                            answered = True
                            self._answered_by(route)
                        yield events
                if answered:
                    return
                failure = UpstreamError("The model server sent nothing.")
            except UpstreamRefused:
                raise
            except UpstreamError as error:
                if answered:
                    raise
                failure = error
        raise failure or UpstreamError

    # Ends ------------------------------------------------------------------------------------------------------

    async def abandon(self) -> None:
        """End the call because its caller has left: upstream is closed, what was delivered is charged."""
        if self.outlives_caller:
            return
        if self._chunks is not None:
            with suppress(RuntimeError):  # somebody else is closing it
                await self._chunks.aclose()
        if self._settling is None:
            self.call.outcome.fail(CLIENT_DISCONNECTED, "The caller left before the end.", Status.CANCELLED)
            if self.reply is not None:
                self._account_reply(self.reply)
            elif self.call.claim is None:
                self._account(None, 0)
            await self._settled()

    def stop(self) -> None:
        """End the call because this process must: its caller is told, and pays for what was delivered."""
        self._stopping = True
        if self._patience is not None and not self._patience.expired():
            with suppress(RuntimeError):  # it is not waiting; its next wait will be short
                self._patience.reschedule(self._loop.time())

    async def _failed(self, error: UpstreamError) -> UpstreamError:
        outcome = self.call.outcome
        known = isinstance(error, UpstreamRefused | ServerStopping) or error.code == DEADLINE
        outcome.fail(error.code if known else UPSTREAM_ERROR, str(error))
        if self.reply is not None and self.reply.choices:
            self._account_reply(self.reply)
        await self._settled()
        return error

    async def _settled(self) -> None:
        if self._settling is None:
            if self._kept:
                self.call.outcome.answer = Answer(200, STREAM_HEADERS, bytes(self._kept))
            self._settling = in_background(self._settle())
            _open.discard(self)
        await asyncio.shield(self._settling)

    async def _settle(self) -> None:
        """Settle, patiently: only this process knows what was used, and a database that is restarted comes back."""
        for pause in (*SETTLE_PAUSES, None):
            try:
                await in_thread(self.opened.settle)
            except (OperationalError, InterfaceError):
                if pause is None:
                    raise
                log.warning("settlement_retried", request=str(self.call.request_id), seconds=pause)
                await asyncio.sleep(pause)
            else:
                return

    def _keep(self, data: bytes) -> None:
        """Remember what is sent, as far as it is not too large to be kept with the idempotency key."""
        if self.call.claim is not None and len(self._kept) <= settings.IDEMPOTENCY_BYTES:
            self._kept += data

    def _answered_by(self, route: Route) -> None:
        self.call.outcome.route = route
        self.call.outcome.first_byte = time.monotonic()

    def _account_reply(self, reply: StreamedReply) -> None:
        self._account(reply.usage, reply.output_estimate)
        self.call.outcome.response, self.call.outcome.text = reply.summary(), reply.text

    def _account(self, reported: TokenUsage | None, output_estimate: int) -> None:
        outcome = self.call.outcome
        outcome.usage = Usage.REPORTED if reported else Usage.ESTIMATED
        tokens = reported or TokenUsage(self.call.input_estimate, output_estimate)
        outcome.input_tokens, outcome.output_tokens, outcome.cached_input_tokens = tokens

    def _out_of_time(self) -> UpstreamError:
        if self._stopping:
            return ServerStopping()
        return UpstreamTimeout("The call took longer than it may.", code=DEADLINE)

    def _seconds_left(self) -> float:
        if self._stopping:
            return 0.0
        return max(0.0, self.call.deadline - time.monotonic())


def _payload_for(call: Call, route: Route) -> Payload:
    """What a route is sent: the caller's payload, and what we must ask for to know the usage and bound the answer."""
    payload = call.payload
    if call.is_stream:
        payload = {**payload, "stream_options": {**(payload.get("stream_options") or {}), "include_usage": True}}
    if route.max_output_tokens and payload.get("max_tokens") is payload.get("max_completion_tokens") is None:
        payload = {**payload, "max_tokens": route.max_output_tokens}
    return payload


def _wants_usage(payload: Payload) -> bool:
    return bool((payload.get("stream_options") or {}).get("include_usage"))


def _error_event(error: UpstreamError) -> bytes:
    body = {"error": {"message": str(error), "type": "api_error", "param": error.param, "code": error.code}}
    return b"data: " + orjson.dumps(body) + b"\n\n"
