"""Whether this process is alive, and whether it can serve."""

from __future__ import annotations

from collections.abc import Callable

import orjson
import redis
from django.conf import settings
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from accounts.snapshots import redis_client
from conversations import partitions
from quotas.local_rates import decided_locally


@require_safe
def alive(_request: HttpRequest) -> HttpResponse:
    return _json({"status": "ok"}, 200)


@require_safe
def ready(_request: HttpRequest) -> HttpResponse:
    """200 if the database, Redis and the migrations are as they must be, else 503; says which.

    `unplaced` is how many messages are in no month's partition: they are served, but somebody has to look after them.
    `decided_locally` is how many calls this process has limited by itself since it started, because Redis was away.
    """
    checks = {name: _says(check) for name, check in CHECKS.items()}
    healthy = all(answer == "ok" for answer in checks.values())
    answer = {
        "status": "ok" if healthy else "unavailable",
        "checks": checks,
        "messages": {"unplaced": _unplaced() if healthy else None},
        "rate_limits": {"decided_locally": decided_locally()},
    }
    return _json(answer, 200 if healthy else 503)


@csrf_exempt
@require_safe
def front_door(_request: HttpRequest) -> HttpResponse:
    return HttpResponseRedirect("/admin/")


def unapplied_migrations() -> list[str]:
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return [f"{migration.app_label}.{migration.name}" for migration, _backwards in plan]


def _database() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return "ok"


def _redis() -> str:
    redis_client().ping()
    return "ok"


def _migrations() -> str:
    return f"unapplied: {len(missing)}" if (missing := unapplied_migrations()) else "ok"


def _unplaced() -> int | None:
    try:
        return partitions.unplaced()
    except DatabaseError:
        return None


CHECKS: dict[str, Callable[[], str]] = {"database": _database, "redis": _redis, "migrations": _migrations}


def _says(check: Callable[[], str]) -> str:
    try:
        return check()
    except (DatabaseError, redis.RedisError) as error:
        return type(error).__name__


def default_secrets() -> list[str]:
    """The names of the secrets that still have the value that is printed in the source."""
    insecure = {settings.INSECURE_SECRET, settings.INSECURE_ENCRYPTION_KEY}
    return [
        name
        for name in ("SECRET_KEY", "JWT_SECRET_KEY", "FIELD_ENCRYPTION_KEYS")
        if insecure & set([value] if isinstance(value := getattr(settings, name), str) else value)
    ]


def _json(value: object, status: int) -> HttpResponse:
    return HttpResponse(orjson.dumps(value), status=status, content_type="application/json")
