"""What a user may use as it stands now, and the changes that operators make to it."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.db.models import F, Value
from django.db.models.functions import Greatest
from django.utils import timezone

from accounts import audit
from accounts.caller import Caller
from accounts.exceptions import InvalidInput
from accounts.models import User
from quotas import ledger
from quotas.models import Quota
from quotas.services.plans import provision

BATCH = 1000


def current_quotas(*, user_id: UUID) -> list[Quota]:
    """The user's own quotas as they stand now: the default ones made, and periods that are over begun anew."""
    mine = Quota.objects.of_user(user_id)
    quotas = list(mine.all())
    if not quotas:
        provision(user_id=user_id)
        quotas = list(mine.all())
    now = timezone.now()
    if any(quota.is_due(now) for quota in quotas):
        reset_due(user_id=user_id)
        quotas = list(mine.all())
    return quotas


def set_limit(*, quota: Quota, limit: int, by: Caller | User, reason: str = "") -> None:
    """Change what each period starts with, and the running period's limit, which cannot fall under what is used."""
    _not_of_a_key(quota)
    if limit < 0:
        raise InvalidInput("A limit cannot be negative.", param="limit")
    with transaction.atomic():
        Quota.objects.filter(pk=quota.pk).update(
            base_limit=limit,
            limit=Greatest(Value(limit) + F("granted"), F("current_usage") + F("held")),
            updated_at=timezone.now(),
        )
        audit.record("quota.limit_changed", by=by, target=quota, former=quota.base_limit, limit=limit, reason=reason)


def reset_usage(*, quota: Quota, by: Caller | User, reason: str = "") -> None:
    """Forget what was used in the running period; open grants and holds stay."""
    _not_of_a_key(quota)
    with transaction.atomic():
        Quota.objects.filter(pk=quota.pk).update(
            current_usage=0, limit=Greatest(F("base_limit") + F("granted"), F("held")), updated_at=timezone.now()
        )
        audit.record("quota.usage_reset", by=by, target=quota, former=quota.current_usage, reason=reason)


def grant(*, quota: Quota, amount: int, by: Caller | User, reason: str = "") -> None:
    """Add to the running period's limit; the next period starts with the base limit again."""
    _not_of_a_key(quota)
    if amount <= 0:
        raise InvalidInput("A grant must be positive.", param="amount")
    with transaction.atomic():
        Quota.objects.filter(pk=quota.pk).update(
            limit=F("limit") + amount, granted=F("granted") + amount, updated_at=timezone.now()
        )
        audit.record("quota.granted", by=by, target=quota, amount=amount, reason=reason)


def reset_due(*, user_id: UUID | None = None, api_key_id: UUID | None = None, now: datetime | None = None) -> int:
    """Begin a new period for the quotas whose period is over; how many there were.

    They are those of one user, with the budgets of the user's keys, and those of one key; without both, everybody's.
    """
    now = now or timezone.now()
    total = 0
    while True:
        done = ledger.reset(user_id=user_id, api_key_id=api_key_id, now=now, batch=BATCH)
        total += done
        if done < BATCH:
            return total


def _not_of_a_key(quota: Quota) -> None:
    if quota.api_key_id is not None:
        raise InvalidInput("This is the budget of an API key. It is set with the key's other budgets.")
