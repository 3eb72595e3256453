"""Starting a child, finding it again after a crash, and stopping it."""

import ctypes
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import psutil

PR_SET_PDEATHSIG = 1
LOG_LIMIT = 50 * 1024 * 1024
MEGABYTE = 1024 * 1024

_libc = ctypes.CDLL(None, use_errno=True)


class StartProblemError(Exception):
    """Something that stops the start and that one sentence explains; it is shown without a traceback."""


def spawn(
    command: Sequence[str],
    *,
    log: Path,
    death_signal: signal.Signals = signal.SIGTERM,
    env: Mapping[str, str] | None = None,
    uid_gid: tuple[int, int] | None = None,
    cwd: str | Path = "/",
) -> subprocess.Popen[bytes]:
    """Start `command` in a session of its own, so that Ctrl-C in the terminal does not reach it.

    It gets `death_signal` from the kernel when its parent dies, however the parent dies. The kernel counts the *thread*
    that called as the parent: call this from a thread that lives as long as the process.
    """
    uid, gid = uid_gid or (None, None)
    with open_log(log) as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=cwd,
            user=uid,
            group=gid,
            extra_groups=None if uid is None else [],
            start_new_session=True,
            preexec_fn=_die_with(os.getpid(), death_signal),  # noqa: PLW1509 - two system calls, no lock is taken
        )


def _die_with(parent: int, death_signal: signal.Signals) -> Callable[[], None]:
    def ask() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != parent:  # it died between fork and prctl
            os._exit(1)

    return ask


def open_log(path: Path) -> BinaryIO:
    """`path`, open for appending; emptied first when it has grown over LOG_LIMIT."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > LOG_LIMIT:
        os.truncate(path, 0)
    return path.open("ab")


def log_tail(path: Path, *, since: int = 0, lines: int = 3) -> str:
    """The last `lines` that were written to a log after its byte `since`, as one line."""
    try:
        with path.open("rb") as file:
            file.seek(max(since, path.stat().st_size - 4096))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    return " / ".join([line.strip() for line in text.splitlines() if line.strip()][-lines:])[-600:]


def processes_in(directory: Path, name: str) -> list[psutil.Process]:
    """The live processes called `name` whose working directory is `directory`.

    PostgreSQL and Redis both work in their data directory, so this finds the servers of a data directory whatever
    became of their pid files, and never takes a stranger that was given an old pid.
    """
    found = []
    for process in psutil.process_iter():
        try:
            alive = process.name().startswith(name) and process.status() != psutil.STATUS_ZOMBIE
            if alive and Path(process.cwd()) == directory.resolve():
                found.append(process)
        except (psutil.Error, OSError):  # it ended meanwhile, or belongs to somebody else
            continue
    return found


def stop(process: subprocess.Popen[bytes] | psutil.Process, how: signal.Signals, *, patience: float) -> bool:
    """Send `how` and wait up to `patience` seconds; whether the process has ended."""
    try:
        process.send_signal(how)
        process.wait(patience)
    except (subprocess.TimeoutExpired, psutil.TimeoutExpired):
        return False
    except (psutil.NoSuchProcess, ProcessLookupError):
        pass
    return True


def describe_end(process: subprocess.Popen[bytes] | None) -> str:
    """How a process ended, in words."""
    code = process.poll() if process is not None else None
    if code is None:
        return "it is not running"
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"


def sentence_case(text: str) -> str:
    """`text` as the start of a sentence, the rest as it is."""
    return text[:1].upper() + text[1:]


def wait_until(ready: Callable[[], bool], *, patience: float, pause: float = 0.02) -> bool:
    """Call `ready` until it answers True or `patience` seconds are over."""
    deadline = time.monotonic() + patience
    while not ready():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True


def need_space(directory: Path, megabytes: int) -> None:
    """Refuse to start a server on a disk that it would fill at once."""
    free = shutil.disk_usage(directory).free // MEGABYTE
    if free < megabytes:
        message = f"The disk is full: {directory} has {free} MB left, and {megabytes} MB are needed to start."
        raise StartProblemError(message)
