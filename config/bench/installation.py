"""An installation that exists for one measurement: it neither needs nor disturbs the one that serves people."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
from collections.abc import Callable, Mapping
from typing import NoReturn
from urllib.parse import urlsplit, urlunsplit

import psycopg
from cryptography.fernet import Fernet
from django.conf import settings
from django.core.management import call_command
from django.db import connections
from django.db.backends.postgresql.base import DatabaseWrapper
from psycopg import sql

from config.embedded import parts, preparation
from config.embedded.command import CommandPart
from config.embedded.paths import DATA_DIR, REPOSITORY
from config.embedded.process import StartProblemError
from config.embedded.supervisor import Part, Supervisor

INSIDE = "MAINSTAY_BENCH"
SUFFIX = "_bench"
DEFAULT_DATABASE = "mainstay"


def is_inside() -> bool:
    """Whether this process has the environment of a measurement."""
    return INSIDE in os.environ


def enter() -> NoReturn:
    """Run this command again, in the environment of a measurement: settings are read only once."""
    command = [sys.executable, str(REPOSITORY / "manage.py"), *sys.argv[1:]]
    os.execve(sys.executable, command, environment(os.environ))  # noqa: S606 - ourselves


def environment(outside: Mapping[str, str]) -> dict[str, str]:
    """The environment of a measurement: data in a directory of its own, or else a database beside the one named."""
    inside = dict(outside) | {
        INSIDE: "1",
        "MAINSTAY_DATA_DIR": str(DATA_DIR / "bench"),
        "DJANGO_DEBUG": "false",
        "BEHIND_TLS": "false",
        "ALLOWED_HOSTS": "127.0.0.1",
        "SECRET_KEY": secrets.token_urlsafe(50),
        "JWT_SECRET_KEY": secrets.token_urlsafe(50),
        "FIELD_ENCRYPTION_KEYS": Fernet.generate_key().decode(),
    }
    if url := inside.get("DATABASE_URL"):
        parts_of_url = urlsplit(url)
        inside["DATABASE_URL"] = urlunsplit(parts_of_url._replace(path=parts_of_url.path + SUFFIX))
    elif inside.get("POSTGRES_HOST"):
        inside["POSTGRES_DB"] = (inside.get("POSTGRES_DB") or DEFAULT_DATABASE) + SUFFIX
    return inside


class Installation:
    """PostgreSQL and Redis, unless the environment names others, and a migrated, empty database."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.supervisor = Supervisor(say)
        self._made_database = False

    def start(self) -> None:
        self.say(f"An installation for this measurement starts in {DATA_DIR}")
        preparation.prepare()
        stores: list[Part] = []
        if parts.needs_postgres():
            shutil.rmtree(DATA_DIR / "postgres", ignore_errors=True)
            stores.append(parts.postgres())
        if parts.needs_redis():
            shutil.rmtree(DATA_DIR / "redis", ignore_errors=True)
            stores.append(parts.redis())
        for store in stores:
            self.supervisor.launch(type(store).__name__, store)
        for store in stores:
            store.wait_ready()
        if not parts.needs_postgres():
            self._make_database()
        self.say("The stores are ready; the database is being migrated.")
        call_command("migrate", interactive=False, verbosity=0)

    def launch(self, part: CommandPart) -> None:
        """Start a part; `stop` stops it."""
        self.supervisor.launch(part.name, part)

    def stop(self) -> None:
        """Stop everything, and leave nothing behind."""
        for connection in connections.all():
            connection.close()
            if isinstance(connection, DatabaseWrapper):
                connection.close_pool()
        self.supervisor.stop()
        if self._made_database:
            self._on_server("DROP DATABASE IF EXISTS {} WITH (FORCE)")
        shutil.rmtree(DATA_DIR, ignore_errors=True)

    def _make_database(self) -> None:
        self._on_server("DROP DATABASE IF EXISTS {} WITH (FORCE)")
        self._on_server("CREATE DATABASE {}")
        self._made_database = True

    def _on_server(self, statement: str) -> None:
        """Run a statement about our database in the one that the environment named."""
        ours = settings.DATABASES["default"]
        name = str(ours["NAME"])
        assert name.endswith(SUFFIX), "never touch another database"
        try:
            with psycopg.connect(conninfo(name.removesuffix(SUFFIX)), autocommit=True) as connection:
                connection.execute(sql.SQL(statement).format(sql.Identifier(name)))
        except psycopg.Error as error:
            reason = str(error).strip().splitlines()[0]
            raise StartProblemError(f"The database {name} could not be made for the measurement: {reason}") from error


def conninfo(database: str = "") -> str:
    """How plain psycopg reaches the settings' database, or another one on the same server."""
    ours = settings.DATABASES["default"]
    return psycopg.conninfo.make_conninfo(
        host=ours["HOST"],
        port=ours["PORT"] or None,
        user=ours["USER"] or None,
        password=ours["PASSWORD"] or None,
        dbname=database or ours["NAME"],
    )
