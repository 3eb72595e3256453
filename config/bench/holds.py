"""Ways to hold what a call may use and to settle what it used, the users to do it for, and their books."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

import psycopg
from django.db import connection
from django.utils import timezone

from accounts.ids import uuid7
from accounts.models import User
from config.bench.replay import Transaction
from config.bench.statements import watch
from quotas import services
from quotas.meters import Meter
from quotas.models import Quota

REQUESTS, TOKENS = Meter("llm", "requests"), Meter("llm", "tokens")
ASKED = {REQUESTS: 1, TOKENS: 120}
USED = {REQUESTS: 1, TOKENS: 80}
SECONDS = 3600
NO_LIMIT = 10**15
BATCH = 2000

# The least that could be called a hold: one quota, known by its id, that nothing but its limit bounds.
LEAST_HOLD = """
WITH raised AS (
    UPDATE quotas_quota SET held = held + %(asked)s
    WHERE id = %(quota_id)s AND current_usage + held + %(asked)s <= "limit"
    RETURNING id, user_id
)
INSERT INTO quotas_reservation (
    id, user_id, status, amounts, holds, idempotency_key, by_client, created_at, expires_at
)
SELECT %(id)s, user_id, 'held', '{}', jsonb_build_object(id, %(asked)s::bigint), '', false, %(now)s, %(now)s
FROM raised
"""
LEAST_SETTLING = """
WITH lowered AS (
    UPDATE quotas_quota SET held = held - %(asked)s, current_usage = current_usage + %(used)s WHERE id = %(quota_id)s
    RETURNING id
)
UPDATE quotas_reservation r
SET status = 'confirmed', settled_at = %(now)s, charged = jsonb_build_object(lowered.id, %(used)s::bigint)
FROM lowered WHERE r.id = %(id)s AND r.status = 'held'
"""

# A quota is wrong if anything is held on it, if it is overspent, or if its usage is not what was charged to it.
BOOKS = """
WITH charged AS (
    SELECT c.key::uuid AS quota_id, sum(c.value::bigint) AS amount
    FROM quotas_reservation, jsonb_each_text(charged) c GROUP BY c.key
)
SELECT (SELECT count(*) FROM quotas_reservation WHERE status = 'confirmed'),
    (SELECT count(*) FROM quotas_reservation WHERE status <> 'confirmed'),
    (
        SELECT count(*) FROM quotas_quota q LEFT JOIN charged c ON c.quota_id = q.id
        WHERE q.held <> 0 OR q.current_usage > q."limit" OR q.current_usage <> coalesce(c.amount, 0)
    )
"""


@dataclass(frozen=True, slots=True)
class Holder:
    """A user with one quota of each meter, and the id of that of tokens."""

    user_id: UUID
    tokens_id: UUID


def make_holders(count: int, *, requests: int = NO_LIMIT) -> list[Holder]:
    """Users who may make that many `requests`."""
    users = [User(email=f"{uuid7()}@example.com") for _ in range(count)]
    User.objects.bulk_create(users, BATCH)
    reset_date = timezone.now() + timedelta(days=30)
    quotas = [
        Quota(
            user=user,
            resource_type=meter.resource,
            unit=meter.unit,
            period="month",
            base_limit=limit,
            limit=limit,
            reset_date=reset_date,
        )
        for user in users
        for meter, limit in ((REQUESTS, requests), (TOKENS, NO_LIMIT))
    ]
    Quota.objects.bulk_create(quotas, BATCH)
    return [Holder(quota.user_id, quota.pk) for quota in quotas if quota.meter == TOKENS]


def tidy() -> None:
    """What PostgreSQL would do by itself some time after many rows were made, so in the middle of the measurement."""
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE accounts_user, quotas_quota")


class Way(Protocol):
    """How to do it, in two transactions."""

    def hold_and_settle(self, holder: Holder) -> None: ...


class Mainstay:
    """As the metered road does it."""

    def hold_and_settle(self, holder: Holder) -> None:
        hold = services.reserve(user_id=holder.user_id, amounts=ASKED, seconds=SECONDS)
        services.settle(reservation_id=hold.id, used=USED)


class BareSql:
    """The statements that the services send, without the services and without Django."""

    def __init__(self, cursor: psycopg.Cursor[Any], statements: Sequence[tuple[str, dict[str, Any]]]) -> None:
        self.cursor = cursor
        self.statements = statements

    def hold_and_settle(self, holder: Holder) -> None:
        own = {"id": uuid7(), "user_id": holder.user_id, "now": datetime.now(UTC)}
        for statement, values in self.statements:
            self.cursor.execute(statement, values | own, prepare=True)
            if self.cursor.description:
                self.cursor.fetchall()


class LeastSql:
    """What cannot be done with less, to show what the ledger's statements cost by themselves."""

    def __init__(self, cursor: psycopg.Cursor[Any]) -> None:
        self.cursor = cursor

    def hold_and_settle(self, holder: Holder) -> None:
        own = {"id": uuid7(), "quota_id": holder.tokens_id, "now": datetime.now(UTC), "asked": ASKED[TOKENS]}
        self.cursor.execute(LEAST_HOLD, own, prepare=True)
        self.cursor.execute(LEAST_SETTLING, own | {"used": USED[TOKENS]}, prepare=True)


def capture(holder: Holder) -> list[tuple[str, dict[str, Any]]]:
    """Hold and settle once, and answer the statements of it with their values."""
    written = Transaction()
    watch(lambda: Mainstay().hold_and_settle(holder), written)
    return written.statements


@dataclass(frozen=True, slots=True)
class Books:
    """What the database says: calls that were settled, and those that were not; quotas that do not add up."""

    settled: int
    unsettled: int
    wrong_quotas: int


def read_books() -> Books:
    with connection.cursor() as cursor:
        cursor.execute(BOOKS)
        return Books(*cursor.fetchone())


def count_deadlocks() -> int:
    """Of this database, ever. A connection reports its own at the latest when it is closed."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        return int(cursor.fetchone()[0])
