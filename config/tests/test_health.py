"""/healthz and /readyz."""

import pytest
from django.conf import settings as django_settings
from django.db import OperationalError, connection
from django.db.migrations.recorder import MigrationRecorder

from config import health

pytestmark = pytest.mark.django_db


def test_a_process_that_answers_is_alive(api, django_assert_num_queries):
    with django_assert_num_queries(0):
        answer = api().get("/healthz")

    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_a_process_that_stays_alive_without_redis(api, redis_away):
    assert api().get("/healthz").status_code == 200


def test_ready_when_all_is_there(api):
    answer = api().get("/readyz")

    assert answer.status_code == 200
    assert answer.json() == {
        "status": "ok",
        "checks": {"database": "ok", "redis": "ok", "migrations": "ok"},
        "messages": {"unplaced": 0},
        "rate_limits": {"decided_locally": 0},
    }


def test_not_ready_without_redis(api, redis_away):
    answer = api().get("/readyz")

    assert answer.status_code == 503
    assert answer.json()["status"] == "unavailable"
    assert answer.json()["checks"] == {"database": "ok", "redis": "ConnectionError", "migrations": "ok"}


def test_not_ready_without_the_database(api):
    def down(*_arguments):
        raise OperationalError("connection to server at db failed: password=hunter2")

    with connection.execute_wrapper(down):
        answer = api().get("/readyz")

    assert answer.status_code == 503
    assert answer.json()["checks"]["database"] == "OperationalError"
    assert answer.json()["checks"]["redis"] == "ok"
    assert "hunter2" not in answer.content.decode()


def test_not_ready_while_migrations_are_missing(api):
    MigrationRecorder.Migration.objects.filter(app="quotas").delete()

    answer = api().get("/readyz")

    assert answer.status_code == 503
    assert answer.json()["checks"]["migrations"].startswith("unapplied: ")
    assert "quotas.0002_seed_plans" in health.unapplied_migrations()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SECRET_KEY", django_settings.INSECURE_SECRET),
        ("JWT_SECRET_KEY", django_settings.INSECURE_SECRET),
        ("FIELD_ENCRYPTION_KEYS", [django_settings.INSECURE_ENCRYPTION_KEY]),
        ("FIELD_ENCRYPTION_KEYS", ["x" * 44, django_settings.INSECURE_ENCRYPTION_KEY]),
    ],
)
def test_a_secret_that_stands_in_the_source_is_found(settings, name, value):
    assert health.default_secrets() == []

    setattr(settings, name, value)

    assert health.default_secrets() == [name]
