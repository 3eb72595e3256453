"""The three people that the tests are about, how they call, and a clean start for each test."""

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.cache import caches
from django.db import connection, transaction
from django.test import Client, TransactionTestCase
from django.test.client import ClientHandler

from accounts.models import User
from accounts.snapshots import redis_client
from accounts.tests.credentials import access_token
from accounts.tests.factories import UserFactory
from config.celery import app as celery_app
from config.embedded.paths import celery_url
from conversations.channels import forget_channels
from inference.routes import forget_routes
from prompts.rendering import forget_versions
from quotas.admission import forget_rates
from quotas.exposures import forget_noted
from quotas.flag_store import forget_flags

# Loading the middleware, which looks for all static files, takes longer than most tests: it is done once for all.
BROWSER_HANDLER = ClientHandler(enforce_csrf_checks=False)

NO_CHROMIUM = "chromium is not installed (Debian: apt-get install chromium)"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if shutil.which("chromium") is None:
        for item in items:
            if item.get_closest_marker("browser"):
                item.add_marker(pytest.mark.skip(reason=NO_CHROMIUM))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """A skipped test is a letter among a thousand dots: name those that a missing browser has cost."""
    skipped = terminalreporter.stats.get("skipped", [])
    left_out = sorted({report.nodeid for report in skipped if NO_CHROMIUM in str(report.longrepr)})
    if left_out:
        terminalreporter.write_line(f"Left out, because {NO_CHROMIUM}:", yellow=True)
        for name in left_out:
            terminalreporter.write_line(f"  {name}", yellow=True)


class ApiClient(Client):
    """Django's test client, which speaks JSON, carries a credential and is not excused from CSRF checks."""

    loaded = ClientHandler(enforce_csrf_checks=True)

    def __init__(self, credential: str | None = None, **options: Any) -> None:
        headers = {"Authorization": f"Bearer {credential}"} if credential else None
        super().__init__(headers=headers, **options)
        self.handler = self.loaded

    def post(self, path: str, data: Any = None, content_type: str = "application/json", **extra: Any) -> Any:
        return super().post(path, data, content_type, **extra)

    def generic(self, method: str, path: str, data: Any = "", content_type: str = "", **extra: Any) -> Any:
        if content_type in {"", "application/octet-stream"}:
            content_type = "application/json"
        return super().generic(method, path, self._encode_json(data, content_type), content_type, **extra)


def emptying() -> str:
    """SQL that puts the database back to how the migrations left it, of which it keeps a copy.

    Django's own way, TRUNCATE and the signals of `migrate`, takes half a second after each test that commits.
    """
    tables = [name for name in connection.introspection.table_names() if name != "django_migrations"]
    with connection.cursor() as cursor:
        cursor.execute("DROP SCHEMA IF EXISTS seeded CASCADE; CREATE SCHEMA seeded")
        for table in tables:
            cursor.execute(f'CREATE TABLE seeded."{table}" AS TABLE "{table}"')
        cursor.execute(
            " UNION ALL ".join(f"SELECT '{table}' WHERE EXISTS (SELECT FROM \"{table}\")" for table in tables)
        )
        seeded = [table for (table,) in cursor.fetchall()]
    return ";".join(
        [
            # Whoever still writes, such as a settlement in the background, comes first, and is then undone, too.
            f"LOCK TABLE {', '.join(f'{chr(34)}{table}{chr(34)}' for table in tables)}",
            "ALTER TABLE accounts_auditevent DISABLE TRIGGER auditevent_no_change",
            # In any order: foreign keys are looked at when the transaction commits.
            *(f'DELETE FROM "{table}"' for table in tables),
            "ALTER TABLE accounts_auditevent ENABLE TRIGGER auditevent_no_change",
            *(f'INSERT INTO "{table}" SELECT * FROM seeded."{table}"' for table in seeded),
        ]
    )


def empty(statement: str) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """The test database, with what migrations put there also after a test that has committed something."""
    with django_db_blocker.unblock(), pytest.MonkeyPatch.context() as patch:
        statement = emptying()
        patch.setattr(TransactionTestCase, "_fixture_teardown", lambda _case: empty(statement))
        yield
    # The threads of `inference.background` keep their connections, and a database with connections is not dropped.
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


@pytest.fixture(autouse=True)
def _clean_start(settings: Any) -> None:
    """Nothing cached, neither in Redis nor in this process, and passwords that cost nothing."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    forget_rates()
    redis_client().flushdb()
    forget_routes()
    forget_channels()
    forget_versions()
    forget_flags()
    forget_noted()


@pytest.fixture
def redis_away(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Redis cannot be reached, neither as a store nor as the broker."""
    settings.REDIS_URL = "unix:///nowhere/redis.sock"
    monkeypatch.setattr(celery_app.conf, "broker_url", celery_url(settings.REDIS_URL))
    monkeypatch.setattr(celery_app.amqp, "_producer_pool", None)
    settings.CACHES = {name: cache | {"LOCATION": settings.REDIS_URL} for name, cache in settings.CACHES.items()}
    redis_client.cache_clear()
    yield
    redis_client.cache_clear()
    caches.close_all()


@pytest.fixture
def alice(db: None) -> User:
    """Owns things."""
    return UserFactory(email="alice@example.com")


@pytest.fixture
def bob(db: None) -> User:
    """Another user."""
    return UserFactory(email="bob@example.com")


@pytest.fixture
def olga(db: None) -> User:
    """An operator."""
    return UserFactory(email="olga@example.com", is_staff=True, is_superuser=True)


@pytest.fixture
def client() -> Client:
    """A browser, which signs in to the admin. Instead of the fixture of pytest-django."""
    browser = Client()
    browser.handler = BROWSER_HANDLER
    return browser


@pytest.fixture
def api() -> Callable[..., ApiClient]:
    """A client for anybody: `api()`, `api(alice)`, `api("msk_…")`."""

    def client_of(who: User | str | None = None, **options: Any) -> ApiClient:
        return ApiClient(access_token(who) if isinstance(who, User) else who, **options)

    return client_of
