"""The real web server, in processes of its own, on the test's database: for what only a real server can show."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

import httpx
import psutil
from django.db import connection

from config.embedded.parts import web_command

ROOT = Path(__file__).resolve().parent.parent


class WebServer:
    """`with WebServer() as web:` serves at `web.url`. Further arguments are environment variables."""

    def __init__(self, *, workers: int = 1, **environment: str) -> None:
        self.workers = workers
        self.environment = environment
        self.output = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the server runs
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            web_command("127.0.0.1", self.port, self.workers),
            cwd=ROOT,
            env=os.environ
            | {
                "POSTGRES_DB": connection.settings_dict["NAME"],
                "DJANGO_DEBUG": "false",
                "LOG_LEVEL": "WARNING",
            }
            | self.environment,
            stdout=self.output,
            stderr=subprocess.STDOUT,
        )
        try:
            self.wait_until_up()
        except AssertionError:
            self.process.kill()
            self.process.wait()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill_workers()
            self.process.kill()
            self.process.wait()
        self.output.close()

    def wait_until_up(self, seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                if httpx.get(f"{self.url}/healthz").status_code == 200:
                    return
            except httpx.TransportError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(f"the web server did not come up:\n{self.logged()}") from None
            time.sleep(0.05)

    def logged(self) -> str:
        """What the server has printed so far."""
        self.output.seek(0)
        return self.output.read().decode()

    def worker_pids(self) -> list[int]:
        return [child.pid for child in psutil.Process(self.process.pid).children()]

    def kill_workers(self) -> None:
        """As a crash or the kernel would: without a chance to tidy up."""
        for pid in self.worker_pids():
            os.kill(pid, signal.SIGKILL)

    def client(self, key: str, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {key}"}, timeout=20, **options)
