"""The SQL of the hold: each function is one statement, all or nothing, and locks quota rows in the order of their ids.

A hold is on the user's own quotas and on the budgets of the key that calls. The two need not belong to one person: a
key may call on behalf of somebody else. So budgets are found by their key alone.

The statements are written out because they are the promise: a hold is admitted by the row versions that it has locked,
so N concurrent holds against a limit of L admit exactly L. A statement is its own transaction where the caller has not
begun one.

Every column of the checks of a quota that an UPDATE writes or leaves alone is written from the locked row:
PostgreSQL checks constraints on the version that the statement's snapshot saw before it follows the row to its latest
one, and would refuse what fits for what is not true any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from django.db import connection

from quotas.meters import Meter, Period, period_end

Amounts = Mapping[Meter, int]

# The user's row is locked before the quotas: a merge, which locks it too, never waits for a hold that waits for it.
# Who was merged into another since the caller was recognised, holds on the other's quotas; who was erased, on none.
RESERVE = """
WITH owner AS MATERIALIZED (
    SELECT u.id FROM accounts_user named JOIN accounts_user u ON u.id = coalesce(named.merged_into_id, named.id)
    WHERE named.id = %(user_id)s AND u.merged_into_id IS NULL AND u.erased_at IS NULL
    FOR KEY SHARE
), wanted AS (
    SELECT * FROM unnest(%(resources)s::text[], %(units)s::text[], %(amounts)s::bigint[])
        AS w(resource_type, unit, amount)
), locked AS MATERIALIZED (
    SELECT q.id, q.resource_type, q.unit, w.amount, q."limit", q.current_usage, q.held, q.reset_date,
        q.overage_allowed, q.api_key_id IS NOT NULL AS of_key,
        (q.reset_date IS NULL OR q.reset_date > %(now)s) AS is_current,
        w.amount <= (CASE WHEN q.overage_allowed THEN 9223372036854775807 ELSE q."limit" END) - q.current_usage - q.held
            AS fits
    FROM quotas_quota q JOIN wanted w ON (q.resource_type, q.unit) = (w.resource_type, w.unit)
    WHERE (q.user_id = (SELECT id FROM owner) AND q.api_key_id IS NULL) OR q.api_key_id = %(api_key_id)s::uuid
    ORDER BY q.id FOR NO KEY UPDATE OF q
), verdict AS (
    SELECT (SELECT id FROM owner) AS user_id,
        coalesce(bool_and(is_current AND fits), false)
            AND count(DISTINCT resource_type) FILTER (WHERE NOT of_key) = %(included)s AS admitted,
        jsonb_object_agg(id::text, amount) AS holds
    FROM locked
), raised AS (
    UPDATE quotas_quota q
    SET held = l.held + l.amount, current_usage = l.current_usage, "limit" = l."limit",
        overage_allowed = l.overage_allowed, updated_at = %(now)s
    FROM locked l, verdict v WHERE v.admitted AND q.id = l.id
), reservation AS (
    INSERT INTO quotas_reservation
        (id, user_id, status, amounts, holds, idempotency_key, by_client, created_at, expires_at)
    SELECT %(id)s, v.user_id, 'held', %(asked)s::jsonb, v.holds, %(idempotency_key)s, %(by_client)s, %(now)s,
        %(expires_at)s
    FROM verdict v WHERE v.admitted
)/* also */
SELECT l.resource_type, l.unit, l.amount, l."limit", l.current_usage, l.held, l.reset_date, l.of_key, l.is_current,
    l.fits, l.id
FROM locked l ORDER BY l.id
"""

SETTLE = """
WITH /* also */reservation AS MATERIALIZED (
    SELECT id, holds FROM quotas_reservation WHERE id = %(id)s AND status = 'held'/* and */ FOR NO KEY UPDATE
), item AS (
    SELECT h.key::uuid AS id, h.value::bigint AS held FROM reservation, jsonb_each_text(holds) h
), used AS (
    SELECT * FROM unnest(%(resources)s::text[], %(units)s::text[], %(amounts)s::bigint[])
        AS u(resource_type, unit, amount)
), locked AS MATERIALIZED (
    SELECT q.id, q."limit", q.current_usage, q.held - i.held AS held, q.overage_allowed, CASE
        WHEN u.amount IS NULL THEN 0
        WHEN q.overage_allowed THEN LEAST(u.amount, 9223372036854775807 - q.current_usage - q.held + i.held)
        ELSE LEAST(u.amount, q."limit" - q.current_usage - q.held + i.held) END AS charge
    FROM quotas_quota q JOIN item i ON i.id = q.id
        LEFT JOIN used u ON (q.resource_type, q.unit) = (u.resource_type, u.unit)
    ORDER BY q.id FOR NO KEY UPDATE OF q
), lowered AS (
    UPDATE quotas_quota q
    SET held = l.held, current_usage = l.current_usage + l.charge, "limit" = l."limit",
        overage_allowed = l.overage_allowed, updated_at = %(now)s
    FROM locked l WHERE q.id = l.id
)
UPDATE quotas_reservation r
SET status = 'confirmed', settled_at = %(now)s, used = %(used)s::jsonb,
    charged = (SELECT coalesce(jsonb_object_agg(id::text, charge), '{}'::jsonb) FROM locked)
FROM reservation WHERE r.id = reservation.id
"""

# A call may outlive its hold by a little: what it used is still charged, as far as the quota has room.
SETTLE_LATE = """
WITH reservation AS MATERIALIZED (
    SELECT id, holds FROM quotas_reservation WHERE id = %(id)s AND status = 'expired' FOR NO KEY UPDATE
), used AS (
    SELECT * FROM unnest(%(resources)s::text[], %(units)s::text[], %(amounts)s::bigint[])
        AS u(resource_type, unit, amount)
), locked AS MATERIALIZED (
    SELECT q.id, q."limit", q.current_usage, q.held, q.overage_allowed, CASE
        WHEN q.overage_allowed THEN LEAST(u.amount, 9223372036854775807 - q.current_usage - q.held)
        ELSE LEAST(u.amount, q."limit" - q.current_usage - q.held) END AS charge
    FROM quotas_quota q JOIN used u ON (q.resource_type, q.unit) = (u.resource_type, u.unit)
    WHERE q.id IN (SELECT key::uuid FROM reservation, jsonb_object_keys(holds) AS key)
    ORDER BY q.id FOR NO KEY UPDATE OF q
), raised AS (
    UPDATE quotas_quota q
    SET held = l.held, current_usage = l.current_usage + l.charge, "limit" = l."limit",
        overage_allowed = l.overage_allowed, updated_at = %(now)s
    FROM locked l WHERE q.id = l.id
)
UPDATE quotas_reservation r
SET status = 'confirmed', settled_at = %(now)s, used = %(used)s::jsonb,
    charged = (SELECT coalesce(jsonb_object_agg(id::text, charge), '{}'::jsonb) FROM locked)
FROM reservation WHERE r.id = reservation.id
"""

RELEASE = """
WITH reservation AS MATERIALIZED (
    SELECT id, holds FROM quotas_reservation WHERE id = %(id)s AND status = 'held' FOR NO KEY UPDATE
), locked AS MATERIALIZED (
    SELECT q.id, q."limit", q.current_usage, q.held - h.value::bigint AS held, q.overage_allowed
    FROM reservation, jsonb_each_text(holds) h, quotas_quota q WHERE q.id = h.key::uuid
    ORDER BY q.id FOR NO KEY UPDATE OF q
), lowered AS (
    UPDATE quotas_quota q
    SET held = l.held, current_usage = l.current_usage, "limit" = l."limit",
        overage_allowed = l.overage_allowed, updated_at = %(now)s
    FROM locked l WHERE q.id = l.id
)
UPDATE quotas_reservation r SET status = %(status)s, settled_at = %(now)s, charged = '{}'::jsonb
FROM reservation WHERE r.id = reservation.id
"""

RESET = """
WITH due AS MATERIALIZED (
    SELECT id, period FROM quotas_quota
    WHERE reset_date <= %(now)s AND (%(everybody)s OR user_id = %(user_id)s::uuid OR api_key_id = %(api_key_id)s::uuid)
    ORDER BY id LIMIT %(batch)s FOR NO KEY UPDATE
)
UPDATE quotas_quota q
SET current_usage = 0, granted = 0, "limit" = GREATEST(q.base_limit, q.held), reset_date = e.reset_date,
    updated_at = %(now)s
FROM due JOIN unnest(%(periods)s::text[], %(ends)s::timestamptz[]) AS e(period, reset_date) ON e.period = due.period
WHERE q.id = due.id
"""


@dataclass(frozen=True, slots=True)
class Also:
    """A statement of another app that is to be part of a ledger statement, which spares it three round trips.

    `name` is what the statement, a data-modifying CTE, is called. One that goes with `reserve` selects its row FROM
    verdict v WHERE v.admitted, where its user is too; one that goes with `settle` returns a row, without which nothing
    is settled.
    """

    name: str
    statement: str
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """One quota as a reserve statement found it, and its verdict."""

    meter: Meter
    amount: int
    limit: int
    current_usage: int
    held: int
    reset_date: datetime | None
    of_key: bool
    is_current: bool
    fits: bool
    id: UUID

    @property
    def remaining(self) -> int:
        return max(0, self.limit - self.current_usage - self.held)


def reserve(
    *,
    id: UUID,
    user_id: UUID,
    api_key_id: UUID | None,
    amounts: Amounts,
    idempotency_key: str | None,
    by_client: bool,
    now: datetime,
    expires_at: datetime,
    also: Also | None = None,
) -> list[Row]:
    """Hold `amounts` on every quota and budget they touch, and answer those as they were before.

    Held if and only if all of them are current and fit, and every resource has at least one quota of the user's own.
    """
    values = _columns(amounts) | {
        "id": id,
        "user_id": user_id,
        "api_key_id": api_key_id,
        "included": len({meter.resource for meter in amounts}),
        "asked": _json(amounts),
        "idempotency_key": idempotency_key,
        "by_client": by_client,
        "now": now,
        "expires_at": expires_at,
    }
    with connection.cursor() as cursor:
        cursor.execute(_reserve_with(also), values | (also.values if also else {}))
        return [Row(Meter(row[0], row[1]), *row[2:]) for row in cursor.fetchall()]


def settle(*, id: UUID, used: Amounts, now: datetime, late: bool = False, also: Also | None = None) -> bool:
    """Replace a hold by what was used. False, and no quota changed, if it is not held (`late`: expired) any more."""
    values = _columns(used) | {"id": id, "used": _json(used), "now": now}
    if late:
        return _execute(SETTLE_LATE, values)
    return _execute(_settle_with(also), values | (also.values if also else {}))


def release(*, id: UUID, status: str, now: datetime) -> bool:
    """Let a hold go. False, and nothing changed, if the reservation is not held."""
    return _execute(RELEASE, {"id": id, "status": status, "now": now})


def reset(*, user_id: UUID | None, api_key_id: UUID | None, now: datetime, batch: int) -> int:
    """Begin a new period for at most `batch` quotas whose period is over; how many there were.

    They are the user's, with the budgets of all of the user's keys, and those of the key; without both, everybody's.
    """
    ends = {period: end for period in Period.values if (end := period_end(period, now)) is not None}
    values = {
        "everybody": user_id is None and api_key_id is None,
        "user_id": user_id,
        "api_key_id": api_key_id,
        "now": now,
        "batch": batch,
        "periods": list(ends),
        "ends": list(ends.values()),
    }
    with connection.cursor() as cursor:
        cursor.execute(RESET, values)
        return int(cursor.rowcount)


def _reserve_with(also: Also | None) -> str:
    return RESERVE if also is None else RESERVE.replace("/* also */", f", {also.name} AS ({also.statement})")


def _settle_with(also: Also | None) -> str:
    if also is None:
        return SETTLE
    statement = SETTLE.replace("/* also */", f"{also.name} AS ({also.statement}), ")
    return statement.replace("/* and */", f" AND EXISTS (SELECT FROM {also.name})")


def _execute(statement: str, values: dict[str, Any]) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return bool(cursor.rowcount)


def _columns(amounts: Amounts) -> dict[str, Any]:
    return {
        "resources": [meter.resource for meter in amounts],
        "units": [meter.unit for meter in amounts],
        "amounts": list(amounts.values()),
    }


def _json(amounts: Amounts) -> str:
    return orjson.dumps({str(meter): amount for meter, amount in amounts.items()}).decode()
