"""Counts what really goes to PostgreSQL: a relay on a unix socket that reads the protocol as it passes.

Messages are named as in https://www.postgresql.org/docs/16/protocol-message-formats.html
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

PORT = 5432
ENCRYPTION_REQUESTS = (80877103, 80877104)


@dataclass(slots=True)
class Traffic:
    """The texts of all statements, BEGIN and COMMIT too; round trips; transactions that ended well."""

    statements: list[str] = field(default_factory=list)
    round_trips: int = 0
    commits: int = 0


class Wire:
    """Stands in `directory` as if it were the server at `host` (a socket directory or a name) and `port`."""

    def __init__(self, directory: Path, *, host: str, port: int) -> None:
        self.path = directory / f".s.PGSQL.{PORT}"
        self.host, self.port = host, port
        self.traffic = Traffic()
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="wire")

    def take(self) -> Traffic:
        """What has been sent since the last time. Call when nothing is on its way."""
        time.sleep(0.005)  # the last answer may have passed before we have read it
        taken, self.traffic = self.traffic, Traffic()
        return taken

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        return self

    def __exit__(self, *exception: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self.path.unlink(missing_ok=True)

    async def _listen(self) -> None:
        self._server = await asyncio.start_unix_server(self._relay, self.path)

    async def _close(self) -> None:
        self._server.close()
        for writer in self._open:
            writer.close()
        await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}), return_exceptions=True)

    async def _relay(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        if self.host.startswith("/"):
            server, to_server = await asyncio.open_unix_connection(f"{self.host}/.s.PGSQL.{self.port}")
        else:
            server, to_server = await asyncio.open_connection(self.host, self.port)
        self._open |= {to_client, to_server}
        session = Session(self)
        await asyncio.gather(_copy(client, to_server, session.sent), _copy(server, to_client, session.answered))
        self._open -= {to_client, to_server}


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter, look: Callable[[bytes], None]) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await source.read(65536):
            look(data)
            target.write(data)
            await target.drain()
    target.close()


class Session:
    """One connection's protocol, in both directions."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self._from_client = b""
        self._from_server = b""
        self._started = False
        self._texts: dict[bytes, str] = {}  # of prepared statements
        self._bound: dict[bytes, str] = {}  # of portals
        self._succeeded = False

    def sent(self, data: bytes) -> None:
        """Read what the client sends: statements, by Query, or by Parse, Bind and Execute."""
        self._from_client += data
        if not self._started and len(self._from_client) >= 8:
            length, code = (int.from_bytes(self._from_client[at : at + 4]) for at in (0, 4))
            if code in ENCRYPTION_REQUESTS:
                raise ConnectionError("encrypted connections cannot be read")
            self._started, self._from_client = True, self._from_client[length:]
        if not self._started:
            return
        for kind, body in self._messages("_from_client"):
            statements = self.wire.traffic.statements
            if kind == b"Q":
                statements.append(body.rstrip(b"\0").decode())
            elif kind == b"P":
                name, text, _types = body.split(b"\0", 2)
                self._texts[name] = text.decode()
            elif kind == b"B":
                portal, name, _values = body.split(b"\0", 2)
                self._bound[portal] = self._texts.get(name, "?")
            elif kind == b"E":
                statements.append(self._bound.get(body.split(b"\0", 1)[0], "?"))

    def answered(self, data: bytes) -> None:
        """Read what the server answers: ReadyForQuery ends a round trip, and names the state of the transaction."""
        self._from_server += data
        for kind, body in self._messages("_from_server"):
            if kind == b"C":
                self._succeeded = body != b"ROLLBACK\0"
            elif kind == b"E":
                self._succeeded = False
            elif kind == b"Z":
                self.wire.traffic.round_trips += 1
                self.wire.traffic.commits += body == b"I" and self._succeeded
                self._succeeded = False

    def _messages(self, name: str) -> Iterator[tuple[bytes, bytes]]:
        """Type and body of each message that has arrived whole; the rest stays."""
        rest: bytes = getattr(self, name)
        at = 0
        while len(rest) >= at + 5:
            end = at + 1 + int.from_bytes(rest[at + 1 : at + 5])
            if len(rest) < end:
                break
            yield rest[at : at + 1], rest[at + 5 : end]
            at = end
        setattr(self, name, rest[at:])
