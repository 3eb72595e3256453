"""When a quota's soft threshold or its limit is reached, and the event that says so, once for each period.

Where usage or a limit changes, a trigger of the database writes the event (migration 0009). But a limit may also be
reached without being met: so little is left of it that calls are refused. Then the refusal writes the event.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from django.db import connection
from django.utils import timezone

# With less than so many percent left, a refused call has reached the limit. With more, it is the call that is large.
# What is held may come back, and counts as left.
LITTLE = 5
IS_LITTLE = 'q."limit" > 0 AND q.current_usage * 100::float8 > q."limit" * (100 - %(little)s)::float8'

# Whoever then calls again and again only reads here.
UNTOLD = f"""
SELECT q.id FROM quotas_quota q
WHERE q.id = ANY(%(ids)s::uuid[]) AND {IS_LITTLE}
    AND NOT EXISTS (
        SELECT FROM quotas_event e
        WHERE (e.quota_id, e.type) = (q.id, 'quota.limit_reached') AND e.reset_date IS NOT DISTINCT FROM q.reset_date
    )
"""  # noqa: S608 - only what stands above is put in

# The lock lets holds pass, and nobody who would give the quota to another user.
TELL = f"""
WITH reached AS MATERIALIZED (
    SELECT q FROM quotas_quota q
    WHERE q.id = ANY(%(ids)s::uuid[]) AND {IS_LITTLE}
    ORDER BY q.id FOR KEY SHARE SKIP LOCKED
)
SELECT quotas_reached(q, 'quota.limit_reached', 100, %(now)s, true) FROM reached
"""  # noqa: S608


def note_refusal(*, quota_ids: Sequence[UUID]) -> None:
    """Write of quotas that have just refused a call that their limits are reached, if little is left: once a period."""
    if not quota_ids:
        return
    with connection.cursor() as cursor:
        cursor.execute(UNTOLD, {"ids": list(quota_ids), "little": LITTLE})
        untold = [quota_id for (quota_id,) in cursor.fetchall()]
        if untold:
            cursor.execute(TELL, {"ids": untold, "little": LITTLE, "now": timezone.now()})
