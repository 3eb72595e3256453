"""Bringing quotas to the present: new periods, expired grants, and rows that are locked to be changed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from copy import copy
from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from accounts.exceptions import NotFound
from quotas import ledger
from quotas.models import Grant, Quota
from quotas.pools import roll

BATCH = 1000


def reset_due(
    *,
    user_id: UUID | None = None,
    api_key_id: UUID | None = None,
    quota_ids: Collection[UUID] | None = None,
    now: datetime | None = None,
    progress: Callable[[int], object] | None = None,
) -> int:
    """Begin a new period for the quotas whose period is over, and let expired grants go; how many quotas there were.

    They are those of one user, with the budgets of the user's keys, those of one key, or the named ones; else all.
    `progress` is told how many more are done.
    """
    now = now or timezone.now()
    due = Quota.objects.due(now).order_by("id")
    if user_id is not None:
        due = due.filter(user_id=user_id)
    if api_key_id is not None:
        due = due.filter(api_key_id=api_key_id)
    if quota_ids is not None:
        due = due.filter(pk__in=quota_ids)
    total = 0
    while True:
        with transaction.atomic():
            quotas = list(due.select_for_update(no_key=True)[:BATCH])
            save(quotas, roll_all(quotas, now), now)
        if progress is not None:
            progress(len(quotas))
        total += len(quotas)
        if len(quotas) < BATCH:
            return total


def locked(quota: Quota, now: datetime) -> tuple[Quota, list[Grant]]:
    """The row of a quota, locked and brought to `now`, with its open grants; to be given to `save`.

    `NotFound` if it is gone.
    """
    # In an order of its own: the model's is by the user, whose row would be locked, too.
    row = Quota.objects.filter(pk=quota.pk).order_by("id").select_for_update(no_key=True).first()
    if row is None:
        raise NotFound("No such quota.")
    grants = _open_grants([row])
    roll(row, grants, now)
    return row, grants


def standing(quotas: Sequence[Quota], now: datetime) -> list[tuple[Quota, list[Grant]]]:
    """Copies of quotas as they are at `now`, each with the grants that were open when it was last looked at.

    Writes nothing: for pages that only show. How much of a grant is spent, stored rows say too late.
    """
    rows = [copy(quota) for quota in quotas]
    grants = roll_all(rows, now)
    return [(row, [grant for grant in grants if grant.quota_id == row.pk]) for row in rows]


def roll_all(quotas: Sequence[Quota], now: datetime) -> list[Grant]:
    """Bring locked quotas to `now`, to be given to `save` with what this answers: the grants that were open."""
    grants = _open_grants(quotas)
    for quota in quotas:
        roll(quota, [grant for grant in grants if grant.quota_id == quota.pk], now)
    return grants


def save(quotas: Sequence[Quota], grants: Sequence[Grant], now: datetime) -> None:
    """Write locked quotas and the pools that they were drawn from."""
    ledger.write(quotas, now=now)
    # Of many grants, one or two have changed since they were read.
    changed = [grant for grant in grants if grant.pools_were != (grant.spent, grant.closed_at)]
    if changed:
        Grant.objects.bulk_update(changed, ["spent", "closed_at"], batch_size=BATCH)


def _open_grants(quotas: Sequence[Quota]) -> list[Grant]:
    """Oldest first. A quota to which nothing is granted has none."""
    granted = [quota.pk for quota in quotas if quota.granted]
    grants = list(Grant.objects.open().filter(quota__in=granted).order_by("id")) if granted else []
    for grant in grants:
        grant.pools_were = (grant.spent, grant.closed_at)
    return grants
