"""manage.py up"""

import os
import sys
import time
from typing import Any

import psycopg
import redis
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.db import DatabaseError, connections
from django.db.backends.postgresql.base import DatabaseWrapper as PostgresConnection
from django.db.migrations.executor import MigrationExecutor
from redis.backoff import NoBackoff
from redis.retry import Retry

from config import firstdata
from config.embedded import account, credentials, parts
from config.embedded.command import CommandPart
from config.embedded.credentials import Credentials
from config.embedded.paths import DATA_DIR
from config.embedded.preparation import LOOPBACK, explain_os_error, read_port, require_free_port
from config.embedded.process import StartProblemError, sentence_case
from config.embedded.supervisor import Part, StopRequestedError, Supervisor
from inference.services import sweep_abandoned

DEFAULT_PORT = 8000
WEB_WORKERS = 2
SECONDS_TO_ANSWER = 5


class Command(BaseCommand):
    help = (
        "Run all of Mainstay on this machine, in the foreground: PostgreSQL and Redis (unless the environment names "
        "others), the local models, the worker and the web server. Everything is kept in .data (MAINSTAY_DATA_DIR). "
        f"PORT and HOST choose where to listen (default: {LOOPBACK}:{DEFAULT_PORT}). Ctrl-C stops everything."
    )
    requires_system_checks = ()
    known: Credentials | None = None

    def handle(self, *args: Any, **options: Any) -> None:
        """Start, watch, and stop; whatever can go wrong outside of us is one sentence and exit code 1."""
        self.started_at = time.monotonic()
        supervisor = Supervisor(self.say)
        supervisor.catch_signals()
        try:
            self.start(supervisor)
            supervisor.watch()
        except StopRequestedError:
            self.say("Stopping.")
        except StartProblemError as problem:
            sys.exit(str(problem))
        except OSError as error:
            sys.exit(explain_os_error(error))
        finally:
            supervisor.stop()
        if self.known is not None:
            credentials.keep(self.known, running=False)
        self.say("Stopped. Nothing is running any more.")

    def start(self, supervisor: Supervisor) -> None:
        """Bring everything up, in the order in which the parts need each other, and print the banner."""
        parts.require_packages()
        host = os.environ.get("HOST") or LOOPBACK
        port = read_port("PORT", DEFAULT_PORT)
        require_free_port(host, port, "PORT")
        self.say(f"Mainstay starts. Its data and its logs are in {DATA_DIR}")
        stores, models = self.launch_servers(supervisor)
        if account.opened:
            names = ", ".join(str(path) for path in account.opened if not path.is_relative_to(sys.prefix))
            self.say(f"The account {account.NAME} of the servers may now pass through (o+x): {names}")
        for name, store in stores.items():
            store.wait_ready()
            self.say(f"{name} is ready.")
        require_stores()
        known = credentials.remember(f"http://{parts.near(host)}:{port}")
        self.known, news = self.prepare_database(known)
        credentials.keep(self.known, running=False)
        web = parts.web(host, port, WEB_WORKERS)
        for part in (parts.worker(), parts.beat(), web):
            supervisor.launch(part.name, part)
        for part in [*models, web]:
            part.wait_ready()
            self.say(f"{sentence_case(part.name)} is ready.")
        supervisor.check()
        credentials.keep(self.known, running=True)
        self.stdout.write(credentials.banner(self.known, news))
        self.stdout.flush()

    def launch_servers(self, supervisor: Supervisor) -> tuple[dict[str, Part], list[CommandPart]]:
        """Start side by side what needs nothing else. The first started is the last stopped."""
        stores: dict[str, Part] = {}
        models = []
        if parts.needs_postgres():
            stores["PostgreSQL"] = parts.postgres()
        if parts.needs_redis():
            stores["Redis"] = parts.redis()
        for name, store in stores.items():
            supervisor.launch(name, store)
        if parts.needs_models():
            models.append(parts.models())
            supervisor.launch(models[0].name, models[0])
        return stores, models

    def prepare_database(self, known: Credentials) -> tuple[Credentials, set[str]]:
        """Apply migrations and make the first data. Answers the credentials, and the names of those that are new."""
        try:
            return self.migrate_and_fill(known)
        except DatabaseError as error:
            if isinstance(error.__cause__, psycopg.errors.DiskFull):
                message = "The disk is full: PostgreSQL cannot write."
            else:
                message = f"The database could not be prepared: {str(error).strip().splitlines()[0]}"
            raise StartProblemError(message) from error
        finally:
            for connection in connections.all():
                connection.close()
                if isinstance(connection, PostgresConnection):
                    connection.close_pool()

    def migrate_and_fill(self, known: Credentials) -> tuple[Credentials, set[str]]:
        executor = MigrationExecutor(connections["default"])
        pending = executor.migration_plan(executor.loader.graph.leaf_nodes())
        if pending:
            call_command("migrate", interactive=False, verbosity=0)
        applied = f" ({len(pending)} migrations applied)" if pending else ""
        self.say(f"The database is ready{applied}.")
        if parts.needs_postgres():
            # Nobody else uses this database, so whatever runs in it is a leftover of a crash.
            sweep_abandoned(all_running=True, batch=100_000)
        result = firstdata.ensure(
            operator_email=known.operator_email,
            operator_password=known.operator_password,
            api_key=known.api_key,
            models_url=settings.MODELS_URL,
        )
        news = {name for name in ("operator_password", "api_key") if result.get(name)}
        return known.updated(result), news

    def say(self, text: str) -> None:
        """One line of progress, with the seconds since the start."""
        self.stdout.write(f"{time.monotonic() - self.started_at:6.1f} s  {text}")
        self.stdout.flush()


def require_stores() -> None:
    """Refuse to start when the PostgreSQL or the Redis that the environment names does not answer."""
    database = settings.DATABASES["default"]
    try:
        psycopg.connect(
            host=database["HOST"],
            port=database["PORT"] or None,
            user=database["USER"],
            password=database["PASSWORD"],
            dbname=database["NAME"],
            connect_timeout=SECONDS_TO_ANSWER,
        ).close()
    except psycopg.OperationalError as error:
        message = f"PostgreSQL cannot be reached: {str(error).strip().splitlines()[0]}"
        raise StartProblemError(message) from error
    client = redis.Redis.from_url(
        settings.REDIS_URL, socket_connect_timeout=SECONDS_TO_ANSWER, retry=Retry(NoBackoff(), retries=0)
    )
    try:
        client.ping()
    except redis.RedisError as error:
        message = f"Redis cannot be reached: {error}"
        raise StartProblemError(message) from error
    finally:
        client.close()
