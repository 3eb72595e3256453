"""The processes that are measured: the stub, and the web server as `manage.py up` starts it."""

from __future__ import annotations

import shlex
import socket
import sys
from pathlib import Path
from typing import Any

import psutil
from django.conf import settings

from config.bench.installation import Installation
from config.embedded import parts
from config.embedded.command import CommandPart
from config.embedded.paths import LOG_DIR, socket_dir

LOOPBACK = "127.0.0.1"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


class Servers:
    """The stub at `stub_port`, the web server at `port`, and for a while another one at `counted_port`.

    `command` is another web server's command line, in which {port} and {workers} are filled in.
    """

    def __init__(self, installation: Installation, workers: int, command: str | None) -> None:
        self.installation = installation
        self.workers = workers
        self.command = command
        self.stub_port, self.port, self.counted_port = free_port(), free_port(), free_port()
        self.stub_url = f"http://{LOOPBACK}:{self.stub_port}/v1"
        # Not where the servers' own sockets are: those belong to the servers' account.
        self.socket_dir = socket_dir().with_name(f"{socket_dir().name}-counted")

    @property
    def name(self) -> str:
        """What kind of web server is measured."""
        if self.command is None:
            return "uvicorn"
        return next((word for word in ("granian", "uvicorn", "hypercorn") if word in self.command), self.command)

    def start_stub(self) -> None:
        command = [sys.executable, "-m", "inference.stub", "--port", str(self.stub_port)]
        health = f"http://{LOOPBACK}:{self.stub_port}/health"
        stub = CommandPart("the stub", command, log=LOG_DIR / "stub.log", patience=5, health_url=health)
        self.installation.launch(stub)
        stub.wait_ready()

    def start_only_web(self) -> None:
        """Without a counted one beside it."""
        self.web = self._web(self.port, self.workers)
        self.installation.launch(self.web)
        self.web.wait_ready()

    def start_web(self, *, count_at: Path) -> None:
        """Start the web server, and the counted one, whose PostgreSQL is at the socket in `count_at`."""
        self.web = self._web(self.port, self.workers)
        self.counted = self._web(self.counted_port, 1)
        self.counted.log = LOG_DIR / "counted.log"
        self.counted.env |= {"DATABASE_URL": "", **counted_database(count_at)}
        for part in (self.web, self.counted):
            self.installation.launch(part)
        for part in (self.web, self.counted):
            part.wait_ready()

    def stop_counted(self) -> None:
        self.counted.stop()

    def _web(self, port: int, workers: int) -> CommandPart:
        part = parts.web(LOOPBACK, port, workers)
        if self.command is not None:
            part.command = [sys.executable, "-m", *shlex.split(self.command.format(port=port, workers=workers))]
        return part

    def memory(self) -> dict[str, Any]:
        """Megabytes in memory (RSS, so what is shared counts in each): of the largest worker, and of each process."""
        assert self.web.child is not None
        parent = psutil.Process(self.web.child.pid)
        sizes = sorted((child.memory_info().rss for child in parent.children(recursive=True)), reverse=True)
        workers = [round(size / 2**20, 1) for size in sizes[: self.workers]]
        return {"rss_mb": max(workers), "rss_mb_each": workers, "rss_mb_parent": _megabytes(parent)}


def _megabytes(process: psutil.Process) -> float:
    return round(process.memory_info().rss / 2**20, 1)


def counted_database(directory: Path) -> dict[str, str]:
    """The environment that leads a web server to the relay in `directory`."""
    ours = settings.DATABASES["default"]
    return {
        "POSTGRES_HOST": str(directory),
        "POSTGRES_PORT": "5432",
        "POSTGRES_USER": ours["USER"],
        "POSTGRES_PASSWORD": ours["PASSWORD"],
        "POSTGRES_DB": ours["NAME"],
    }
