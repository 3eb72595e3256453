"""The web server: `python -m config.serve --host H --port P --workers N` runs N processes of uvicorn on one port.

uvicorn's own `--workers` lets all processes accept from one socket, and whoever wakes up first takes all that waits:
of 32 connections that came at once, one of two processes often took every one. Here each process has a socket of its
own (SO_REUSEPORT), and the kernel deals the connections out. The parent keeps the sockets open, so that what arrives
while a process is being replaced waits for its successor.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from tempfile import TemporaryDirectory
from types import FrameType

import uvicorn

from config.stopping import at_once, before_cut_off

# What is open when a stop is asked for may take this long; then it is cut off, and settled.
GRACEFUL_SECONDS = int(os.environ.get("GRACEFUL_SECONDS", "10"))
# uvicorn's exit code for a process that refused or failed to start: another one would do the same.
STARTUP_FAILURE = 3
RESPAWN_PAUSE = 0.2
PR_SET_PDEATHSIG = 1


class Server:
    """The parent of the worker processes."""

    def __init__(self, host: str, port: int, workers: int) -> None:
        self.sockets = [listener(host, port) for _ in range(workers)]
        self.workers: list[subprocess.Popen[bytes]] = []
        self.stopping = False

    def run(self) -> int:
        """Serve until a signal asks to stop; the exit code."""
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, self.stop)
        self.workers = [spawn(own) for own in self.sockets]
        failed = False
        while not self.stopping:
            time.sleep(RESPAWN_PAUSE)
            failed = any(worker.poll() == STARTUP_FAILURE for worker in self.workers)
            if failed:
                self.stop()
            elif not self.stopping:
                self.respawn()
        for worker in self.workers:
            worker.wait()
        return STARTUP_FAILURE if failed else 0

    def respawn(self) -> None:
        for index, worker in enumerate(self.workers):
            if worker.poll() is not None:
                print(f"mainstay: web process {worker.pid} ended ({worker.returncode}); a new one starts.", flush=True)  # noqa: T201 - the log
                self.workers[index] = spawn(self.sockets[index])

    def stop(self, signum: int = signal.SIGTERM, frame: FrameType | None = None) -> None:
        """Ask every process to end: no new connections, GRACEFUL_SECONDS for what is open, then a settlement each."""
        self.stopping = True
        for worker in self.workers:
            if worker.poll() is None:
                worker.terminate()


def listener(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    own = socket.socket(family, socket.SOCK_STREAM)
    own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    own.bind((host, port))
    own.listen(2048)
    own.set_inheritable(True)
    return own


def spawn(own: socket.socket) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "config.serve", "--fd", str(own.fileno()), "--parent", str(os.getpid())]
    # A session of its own: Ctrl-C reaches the parent, which asks the workers.
    return subprocess.Popen(command, pass_fds=[own.fileno()], start_new_session=True)  # noqa: S603 - our own


class RoadServer(uvicorn.Server):
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Before uvicorn cancels what is open, it is ended in a way that callers understand."""
        for callback in at_once:
            callback()
        for callback in before_cut_off:
            asyncio.get_running_loop().call_later(max(0.0, GRACEFUL_SECONDS - 1), callback)
        await super().shutdown(sockets)


def work(fd: int, parent: int) -> None:
    """One worker process, on the socket that it has inherited."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
        if os.getppid() != parent:
            return
    server = RoadServer(
        uvicorn.Config(
            "config.asgi:application",
            access_log=False,
            log_config=None,
            log_level="warning",
            # Whom to believe about a caller's address is ours to say (TRUSTED_PROXIES).
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=GRACEFUL_SECONDS,
        )
    )
    server.run(sockets=[socket.socket(fileno=fd)])
    if not server.started:
        sys.exit(STARTUP_FAILURE)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m config.serve", description="Run the web server.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--workers", type=int, default=2, help="processes; one for each core is a good number")
    parser.add_argument("--fd", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--parent", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fd is not None:
        work(options.fd, options.parent)
        return
    # Where the processes count together, for /metrics.
    with TemporaryDirectory(prefix="mainstay-metrics-") as counts:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = counts
        try:
            server = Server(options.host, options.port, options.workers)
        except OSError as error:
            sys.exit(f"mainstay: cannot listen on {options.host}:{options.port}: {error.strerror}.")
        sys.exit(server.run())


if __name__ == "__main__":
    main()
