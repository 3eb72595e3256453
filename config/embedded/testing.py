"""PostgreSQL and Redis for the test suite: real servers, without durability, under DATA_DIR/test.

Each run of the suite takes the first free place (DATA_DIR/test/0, 1, …) and holds its lock, so two runs on one clone do
not meet. The workers of pytest-xdist inherit the environment of the run that started them.
"""

import fcntl
import os
import subprocess
import sys
from pathlib import Path
from typing import TextIO

from config.embedded.paths import DATA_DIR, DATABASE, POSTGRES_PORT, redis_socket, short_socket_dir
from config.embedded.postgres import EmbeddedPostgres
from config.embedded.process import StartProblemError
from config.embedded.redis import EmbeddedRedis

PLACES = 16

_servers: list[EmbeddedPostgres | EmbeddedRedis] = []
_lock: TextIO | None = None


def ensure_servers() -> None:
    """Start what the environment does not name already, and point the environment at it. Call before settings load."""
    global _lock
    needs_postgres = not (os.environ.get("DATABASE_URL") or os.environ.get("POSTGRES_HOST"))
    needs_redis = not (os.environ.get("REDIS_URL") or os.environ.get("REDIS_HOST"))
    if not (needs_postgres or needs_redis):
        return
    home, _lock = _take_place()
    sockets = short_socket_dir(home)
    if needs_postgres:
        _servers.append(
            EmbeddedPostgres(home / "postgres", sockets, POSTGRES_PORT, log=home / "postgres.log", durable=False)
        )
        os.environ |= {"POSTGRES_HOST": str(sockets), "POSTGRES_PORT": str(POSTGRES_PORT)}
        os.environ |= {"POSTGRES_USER": DATABASE, "POSTGRES_PASSWORD": "", "POSTGRES_DB": DATABASE}
    if needs_redis:
        _servers.append(EmbeddedRedis(home / "redis", sockets, log=home / "redis.log", durable=False))
        os.environ["REDIS_URL"] = f"unix://{redis_socket(sockets)}?db=0"
    for server in _servers:
        server.launch()
    for server in _servers:
        server.wait_ready()


def stop_servers() -> None:
    """Stop what `ensure_servers` started in this process; nothing in a worker, which started none."""
    global _lock
    while _servers:
        _servers.pop().stop()
    if _lock is not None:
        _lock.close()
        _lock = None


def _take_place() -> tuple[Path, TextIO]:
    for number in range(PLACES):
        home = DATA_DIR / "test" / str(number)
        home.mkdir(parents=True, exist_ok=True)
        lock = (home / "lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
        else:
            return home, lock
    message = f"{PLACES} test runs are using {DATA_DIR / 'test'} already."
    raise StartProblemError(message)


def main() -> int:
    """Run a command with both servers at hand: `python -m config.embedded.testing <command> …`."""
    ensure_servers()
    try:
        return subprocess.run(sys.argv[1:], check=False).returncode
    finally:
        stop_servers()


if __name__ == "__main__":
    sys.exit(main())
