"""A load generator that costs as little as can be: raw asyncio; connections stay open, each with one call at a time."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from functools import partial
from typing import cast

import orjson
import uvloop

from config.bench.figures import Sample

MESSAGES = [{"role": "user", "content": "Lorem ipsum dolor sit amet, consectetur. " * 10}]
MAX_TOKENS = 64
PATIENCE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Job:
    """Chat calls to `port` over `connections`, for `seconds`, or once each if that is None.

    Connection i uses `keys[i % len(keys)]`. A stream is right when `chunks` of text came, and its end.
    """

    port: int
    keys: tuple[str, ...]
    connections: int
    seconds: float | None
    model: str = "instant"
    stream: bool = False
    chunks: int = 50


def run(job: Job) -> Sample:
    """Make the calls of `job`, and return when the last one has been answered."""
    return uvloop.run(_Load(job).run())


def request_bytes(job: Job, key: str) -> bytes:
    """One call as it goes over the wire."""
    payload = {"model": job.model, "max_tokens": MAX_TOKENS, "stream": job.stream, "messages": MESSAGES}
    body = orjson.dumps(payload)
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class _Load:
    def __init__(self, job: Job) -> None:
        self.job = job
        self.sample = Sample(0.0)
        self.streaming = 0
        self.until = 0.0
        self.working: set[_Connection] = set()

    async def run(self) -> Sample:
        loop, job = asyncio.get_running_loop(), self.job
        self.done = loop.create_future()
        for number in range(job.connections):
            key = job.keys[number % len(job.keys)]
            connection = _Connection(self, key)
            await loop.create_connection(partial(_itself, connection), "127.0.0.1", job.port)
            self.working.add(connection)
        begun = time.perf_counter()
        self.until = begun + (job.seconds or 0.0)
        connections = list(self.working)
        for connection in connections:
            connection.call()
        try:
            await asyncio.wait_for(self.done, (job.seconds or 0.0) + PATIENCE_SECONDS)
        except TimeoutError:
            self.sample.errors += [f"no answer in {PATIENCE_SECONDS:g} s"] * len(self.working)
        self.sample.seconds = time.perf_counter() - begun
        for connection in connections:
            connection.leave()
        return self.sample

    def streaming_now(self, change: int) -> None:
        self.streaming += change
        self.sample.peak = max(self.sample.peak, self.streaming)

    def finished(self, connection: _Connection) -> None:
        self.working.discard(connection)
        if not self.working and not self.done.done():
            self.done.set_result(None)


class _Connection(asyncio.Protocol):
    def __init__(self, load: _Load, key: str) -> None:
        self.load = load
        self.request = request_bytes(load.job, key)
        self.answer = bytearray()
        self.begun = 0.0
        self.calling = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def call(self) -> None:
        self.answer.clear()
        self.calling = True
        self.begun = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        if self.load.job.stream and not self.answer:
            self.load.streaming_now(1)
        self.answer += data
        if not is_complete(self.answer):
            return
        self.calling = False
        now = time.perf_counter()
        if self.load.job.stream:
            self.load.streaming_now(-1)
        if (wrong := what_is_wrong(self.answer, self.load.job)) is None:
            self.load.sample.latencies.append(now - self.begun)
        else:
            self.load.sample.errors.append(wrong)
        if now < self.load.until:
            self.call()
        else:
            self.load.finished(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.calling:
            self.load.sample.errors.append("the connection was closed before the answer was complete")
        self.load.finished(self)

    def leave(self) -> None:
        self.calling = False
        self.transport.abort()


def _itself(connection: _Connection) -> _Connection:
    return connection


def is_complete(answer: bytearray) -> bool:
    """Whether all of a response has arrived, by its content-length or by the end of its chunks."""
    end = answer.find(b"\r\n\r\n")
    if end < 0:
        return False
    at = answer.lower().find(b"content-length:", 0, end) if len(answer) < 4096 else -1
    if at < 0:
        return answer.endswith(b"0\r\n\r\n")
    return len(answer) >= end + 4 + int(answer[at + 15 : answer.find(b"\r\n", at)])


def what_is_wrong(answer: bytearray, job: Job) -> str | None:
    """Why a complete response is not the one that the stub gives, in words."""
    if not answer.startswith(b"HTTP/1.1 200 "):
        return answer.replace(b"\r\n\r\n", b" ", 1).decode(errors="replace")[:400]
    if job.stream and (chunks := answer.count(b'"content"')) != job.chunks:
        return f"a stream had {chunks} chunks instead of {job.chunks}"
    if job.stream and b"data: [DONE]" not in answer[-40:]:
        return "a stream ended without [DONE]"
    return None if b'"choices"' in answer else "an answer had no choices"
