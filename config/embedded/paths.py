"""Where the embedded servers keep their data, and how settings reach them.

Standard library only, and nothing of Django: `config.settings` imports this module.
"""

import base64
import hashlib
import json
import os
from pathlib import Path
from secrets import token_bytes, token_urlsafe

REPOSITORY = Path(__file__).resolve().parents[2]
DATA_DIR = Path(os.environ.get("MAINSTAY_DATA_DIR") or REPOSITORY / ".data").absolute()
SECRETS_FILE = DATA_DIR / "secrets.json"
UP_FILE = DATA_DIR / "up.json"
LOG_DIR = DATA_DIR / "logs"
MAIL_DIR = DATA_DIR / "mail"

# PostgreSQL names its socket after a port, although it listens on no port at all.
POSTGRES_PORT = 5432
DATABASE = "mainstay"

# The kernel takes 107 bytes for a socket's path; the longest name that is put in a directory is ".s.PGSQL.5432".
_SOCKET_PATH_BYTES = 107
_LONGEST_SOCKET_NAME = len("/.s.PGSQL.5432")


def short_socket_dir(home: Path) -> Path:
    """The directory for the unix sockets of the servers of `home`: inside it, or in /tmp if its path is too long."""
    preferred = home / "run"
    if len(os.fsencode(preferred)) + _LONGEST_SOCKET_NAME <= _SOCKET_PATH_BYTES:
        return preferred
    digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:12]
    return Path("/tmp") / f"mainstay-{os.getuid()}-{digest}"  # noqa: S108 - its owner is checked before use


def socket_dir() -> Path:
    """The directory for the unix sockets of the servers that `manage.py up` starts."""
    return short_socket_dir(DATA_DIR)


def postgres_params() -> dict[str, str | int]:
    """How to reach the embedded PostgreSQL: host (a socket directory), port, user, dbname.

    There is no password: the server asks the kernel who stands at the other end of the socket (`peer`).
    """
    return {"host": str(socket_dir()), "port": POSTGRES_PORT, "user": DATABASE, "dbname": DATABASE}


def redis_socket(directory: Path) -> Path:
    """The socket of the Redis whose sockets are in `directory`."""
    return directory / "redis.sock"


def redis_url() -> str:
    """How to reach the embedded Redis, as redis-py and django-redis write it."""
    return f"unix://{redis_socket(socket_dir())}?db=0"


def celery_url(url: str) -> str:
    """The same Redis as `url`, as Celery and kombu write it: they have another scheme for unix sockets."""
    return url.replace("unix://", "redis+socket://", 1).replace("?db=", "?virtual_host=", 1)


def secrets() -> dict[str, str]:
    """What `ensure_secrets` once made; empty before that."""
    try:
        loaded: dict[str, str] = json.loads(SECRETS_FILE.read_text())
    except FileNotFoundError:
        return {}
    return loaded


def ensure_secrets() -> dict[str, str]:
    """The installation's secrets, made at the first call and kept in a file that only its owner can read."""
    known = secrets()
    wanted = {name: make() for name, make in _MAKERS.items() if name not in known}
    if wanted:
        known |= wanted
        write_private_json(SECRETS_FILE, known)
    return known


def write_private_json(path: Path, content: dict[str, str] | dict[str, object]) -> None:
    """Write `content` to `path` with mode 0600 and all or nothing: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(content, file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _fernet_key() -> str:
    return base64.urlsafe_b64encode(token_bytes(32)).decode()


_MAKERS = {
    "SECRET_KEY": lambda: token_urlsafe(50),
    "JWT_SECRET_KEY": lambda: token_urlsafe(50),
    "FIELD_ENCRYPTION_KEYS": _fernet_key,
}
