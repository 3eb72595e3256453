"""What `manage.py up` does before Django reads its settings: they depend on it. Nothing here imports Django."""

import contextlib
import errno
import fcntl
import os
import socket
from pathlib import Path
from typing import TextIO

from config.embedded.command import stop_leftovers
from config.embedded.paths import DATA_DIR, ensure_secrets
from config.embedded.process import StartProblemError, need_space

LOCK_FILE = DATA_DIR / "up.lock"
MODELS_PORT_FILE = DATA_DIR / "models.port"
MEGABYTES_FOR_A_START = 16
LOOPBACK = "127.0.0.1"

_held: list[TextIO] = []


def prepare() -> None:
    """Take the data directory for this process, clear up after a crash, and make the secrets and addresses."""
    try:
        _make_data_dir()
        _held.append(lock(LOCK_FILE))
        need_space(DATA_DIR, MEGABYTES_FOR_A_START)
        stop_leftovers()
        ensure_secrets()
        if not os.environ.get("MODELS_URL"):
            port = models_port()
            os.environ |= {
                "MODELS_PORT": str(port),
                "MODELS_URL": f"http://{LOOPBACK}:{port}/v1",
                "MAINSTAY_MODELS": "local",
            }
    except OSError as error:
        raise StartProblemError(explain_os_error(error)) from error


def explain_os_error(error: OSError) -> str:
    """What a failed file operation in the data directory means to the person who started us."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"The disk is full: {DATA_DIR} cannot take any more data."
    where = error.filename or DATA_DIR
    return f"{where} cannot be used ({error.strerror}): make it writable, or choose another MAINSTAY_DATA_DIR."


def lock(path: Path) -> TextIO:
    """The lock of the data directory. The kernel gives it back when the holder ends, however it ends."""
    file = path.open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        file.close()
        message = (
            f"Mainstay is running already on {DATA_DIR} (process {holder}): stop it first, or set MAINSTAY_DATA_DIR."
        )
        raise StartProblemError(message) from None
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def models_port() -> int:
    """The model server's port: MODELS_PORT, or the one that was free at the first start and still is."""
    if os.environ.get("MODELS_PORT"):
        return read_port("MODELS_PORT", 0)
    with contextlib.suppress(FileNotFoundError, ValueError, StartProblemError):
        known = int(MODELS_PORT_FILE.read_text())
        require_free_port(LOOPBACK, known, "MODELS_PORT")
        return known
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
    MODELS_PORT_FILE.write_text(f"{port}\n")
    return port


def read_port(variable: str, default: int) -> int:
    """The port that an environment variable names."""
    text = os.environ.get(variable) or str(default)
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
        message = f"{variable} must be a number from 1 to 65535, not {text!r}."
        raise StartProblemError(message)
    return int(text)


def require_free_port(host: str, port: int, variable: str) -> None:
    """Refuse a port on which somebody listens."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # As servers do: a port whose last connections are still fading is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                message = f"Port {port} is in use by another program: stop that, or choose another with {variable}=…"
            else:
                message = (
                    f"Nobody can listen on {host}:{port} here ({error.strerror}): choose another HOST or {variable}."
                )
            raise StartProblemError(message) from error


def _make_data_dir() -> None:
    if not DATA_DIR.exists():
        DATA_DIR.mkdir(parents=True)
        # Started by root, the servers' own account must pass to its directories, and may not look around.
        DATA_DIR.chmod(0o711 if os.geteuid() == 0 else 0o700)
