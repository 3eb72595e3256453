"""When a quota's soft threshold or its limit is reached, and the event that says so, once for each period.

Where usage or a limit changes, a trigger of the database writes the event (migration 0009). But a limit may also be
reached without being met: what is left of it is too little for a call. Then the refusal writes the event.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from uuid import UUID

import structlog
from django.db import DEFAULT_DB_ALIAS, OperationalError, connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

log = structlog.get_logger(__name__)

# A refused call over the soft threshold: whoever then calls again and again only reads here.
UNTOLD = """
SELECT q.id FROM quotas_quota q
WHERE q.id = ANY(%(ids)s::uuid[]) AND q."limit" > 0
    AND (q.current_usage + q.held) * 100::float8 >= q."limit" * q.soft_threshold::float8
    AND NOT EXISTS (
        SELECT FROM quotas_event e
        WHERE (e.quota_id, e.type) = (q.id, 'quota.limit_reached') AND e.reset_date IS NOT DISTINCT FROM q.reset_date
    )
"""

# The lock lets holds pass, and nobody who would give the quota to another user.
TELL = """
WITH reached AS MATERIALIZED (
    SELECT q FROM quotas_quota q WHERE q.id = ANY(%(ids)s::uuid[]) ORDER BY q.id FOR KEY SHARE SKIP LOCKED
)
SELECT quotas_reached(q, 'quota.limit_reached', 100, %(now)s) FROM reached
"""


def note_refusal(*, quota_ids: Sequence[UUID]) -> None:
    """Write that the limits of these quotas, which have just refused a call, are reached, where that is not known yet.

    The refusal undoes the transaction that it happens in, so inside of one the event is written past it, on another
    connection. Where that fails, the next refused call tries again.
    """
    untold = _untold(quota_ids) if quota_ids else []
    if not untold:
        return
    try:
        own = connections[DEFAULT_DB_ALIAS]
        if own.in_atomic_block:
            with closing(own.copy()) as beside:
                _tell(beside, untold)
        else:
            _tell(own, untold)
    except OperationalError as error:
        log.warning("event_not_written", reason=type(error).__name__)


def _untold(quota_ids: Sequence[UUID]) -> list[UUID]:
    with connection.cursor() as cursor:
        cursor.execute(UNTOLD, {"ids": list(quota_ids)})
        return [quota_id for (quota_id,) in cursor.fetchall()]


def _tell(through: BaseDatabaseWrapper, quota_ids: list[UUID]) -> None:
    with through.cursor() as cursor:
        cursor.execute(TELL, {"ids": quota_ids, "now": timezone.now()})
