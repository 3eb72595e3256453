"""A part of the installation that is an ordinary command: the model server, the worker, the web server."""

import contextlib
import os
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from config.embedded.paths import DATA_DIR, REPOSITORY
from config.embedded.process import StartProblemError, log_tail, sentence_case, spawn, stop, wait_until

# In the environment of every such command and of all that it starts, so that they are found again after a crash of
# anything. A pid file would name a stranger once the pid has been given away.
MARK = "MAINSTAY_SUPERVISED"


class CommandPart:
    """One supervised command, with everything that it starts."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        patience: float,
        env: Mapping[str, str] | None = None,
        health_url: str | None = None,
    ) -> None:
        self.name = name
        self.command = command
        self.log = log
        self.env = {**os.environ, **(env or {}), MARK: str(DATA_DIR), "PYTHONUNBUFFERED": "1"}
        self.health_url = health_url
        self.patience = patience
        self.child: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    def launch(self) -> None:
        """Start the command and return at once."""
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        self.child = spawn(self.command, log=self.log, env=self.env, cwd=REPOSITORY)

    def is_running(self) -> bool:
        """Whether the command is alive."""
        return self.child is not None and self.child.poll() is None

    def is_ready(self) -> bool:
        """Whether it answers on its health URL; a command without one is ready while it runs."""
        if self.health_url is None:
            return self.is_running()
        try:
            with urllib.request.urlopen(self.health_url, timeout=5) as response:  # noqa: S310 - an address of our own
                return bool(response.status == 200)
        except (OSError, urllib.error.HTTPError):
            return False

    def wait_ready(self, patience: float = 60) -> None:
        """Wait until it is ready."""
        wait_until(lambda: not self.is_running() or self.is_ready(), patience=patience, pause=0.05)
        if self.is_running() and not self.is_ready():
            message = f"{sentence_case(self.name)} runs but is not ready: {self.health_url} and {self.log} say why."
            raise StartProblemError(message)
        if not self.is_running():
            tail = log_tail(self.log, since=self._log_start)
            message = f"{sentence_case(self.name)} did not start; the end of {self.log} says: {tail}"
            raise StartProblemError(message)

    def stop(self) -> None:
        """Ask it to finish, wait `patience` seconds, and end what is still there."""
        if self.child is not None:
            stop(self.child, signal.SIGTERM, patience=self.patience)
            self.kill()
            self.child = None

    def kill(self) -> None:
        """End it and all that it started, at once."""
        if self.child is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.child.pid, signal.SIGKILL)  # it leads a session of its own
            self.child.poll()


def stop_leftovers(patience: float = 10) -> int:
    """End what a killed `up` of this data directory left running; how many processes that were."""
    leftovers = [process for process in psutil.process_iter() if _is_marked(process)]
    for process in leftovers:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(leftovers, timeout=patience)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=patience)
    return len(leftovers)


def _is_marked(process: psutil.Process) -> bool:
    try:
        return process.pid != os.getpid() and process.environ().get(MARK) == str(DATA_DIR)
    except (psutil.Error, OSError):  # it ended meanwhile, or belongs to somebody else
        return False
