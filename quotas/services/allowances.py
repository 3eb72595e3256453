"""What a user may use as it stands now, and the changes that operators make to it."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from accounts import audit
from accounts.caller import Caller
from accounts.exceptions import Conflict, InvalidInput
from accounts.models import User
from quotas.meters import Meter, Period, period_end
from quotas.models import Event, Grant, PlanLimit, Quota
from quotas.pools import fit, still_open
from quotas.services.periods import locked, reset_due, save
from quotas.services.plans import current_subscription, follow, provision

# Far above any use, far below where a sum of two would leave 64 bits.
MOST_AMOUNT = 10**18


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
    """Agree on what each period of a user starts with, whatever the plan says; it counts in the running one at once.

    There the limit cannot fall under what is used and held, and falls on as holds are let go.
    """
    _not_of_a_key(quota)
    _check_amount(limit, least=0, param="limit")
    now = timezone.now()
    with transaction.atomic():
        row, grants = locked(quota, now)
        former = row.base_limit
        row.base_limit, row.is_override = limit, True
        _save(row, grants, now)
        audit.record("quota.limit_changed", by=by, target=row, former=former, limit=limit, reason=reason)


def add_quota(*, user_id: UUID, meter: Meter, period: Period, limit: int, by: Caller | User, reason: str = "") -> Quota:
    """Limit something that the user's plan does not. `Conflict` if the user has such a quota already."""
    _check_amount(limit, least=0, param="limit")
    with transaction.atomic():
        provision(user_id=user_id)
        quota = Quota(
            user_id=user_id,
            resource_type=meter.resource,
            unit=meter.unit,
            period=period,
            base_limit=limit,
            limit=limit,
            is_override=True,
            reset_date=period_end(period, timezone.now()),
        )
        if Quota.objects.of_user(user_id).filter(resource_type=meter.resource, unit=meter.unit, period=period).exists():
            raise Conflict(f"There is a quota of {quota} already.", code="quota_exists")
        quota.save(force_insert=True)
        audit.record("quota.added", by=by, target=quota, quota=str(quota), limit=limit, reason=reason)
        return quota


def clear_override(*, quota: Quota, by: Caller | User, reason: str = "") -> None:
    """Let a quota follow the user's plan again. One that the plan does not know goes, or admits nothing more."""
    now = timezone.now()
    with transaction.atomic():
        row, grants = locked(quota, now)
        if not row.is_override:
            raise Conflict("This quota follows the plan already.", code="not_overridden")
        subscription = current_subscription(user_id=row.user_id)
        limits = PlanLimit.objects.filter(plan=subscription.plan if subscription else None)
        same = limits.filter(resource_type=row.resource_type)
        limit = same.filter(unit=row.unit, period=row.period).first()
        audit.record("quota.override_cleared", by=by, target=row, former=row.base_limit, reason=reason)
        if limit is None and same.exists():
            row.delete()
            return
        follow(row, limit, subscription.anchored_at if subscription else None, now)
        save([row], grants, now)


def reset_usage(*, quota: Quota, by: Caller | User, reason: str = "") -> None:
    """Forget what was used in the running period. Holds stay, and what grants have covered stays spent."""
    _not_of_a_key(quota)
    now = timezone.now()
    with transaction.atomic():
        row, grants = locked(quota, now)
        former = row.current_usage
        row.current_usage = row.base_used = 0
        row.granted = sum(grant.remaining for grant in still_open(grants))
        _save(row, grants, now)
        audit.record("quota.usage_reset", by=by, target=row, former=former, reason=reason)


def grant(
    *, quota: Quota, amount: int, by: Caller | User, expires_at: datetime | None = None, reason: str = ""
) -> Grant:
    """Add to a quota, once: until it is spent, or until `expires_at`. What expires first is spent first."""
    _not_of_a_key(quota)
    _check_amount(amount, least=1, param="amount")
    now = timezone.now()
    if expires_at is not None and expires_at <= now:
        raise InvalidInput("A grant must expire in the future.", param="expires_at")
    with transaction.atomic():
        row, grants = locked(quota, now)
        _check_amount(row.granted + amount, least=1, param="amount")
        given = Grant.objects.create(quota=row, amount=amount, expires_at=expires_at, reason=reason, created_at=now)
        row.granted += amount
        row.grants_expire_at = min(filter(None, (row.grants_expire_at, expires_at)), default=None)
        _save(row, grants, now)
        ends = expires_at.isoformat() if expires_at else None
        audit.record("quota.granted", by=by, target=row, amount=amount, expires_at=ends, reason=reason)
        return given


def revoke_grant(*, grant: Grant, by: Caller | User, reason: str = "") -> None:
    """Take back what is left of a grant; `Conflict` if it is spent or has expired."""
    now = timezone.now()
    with transaction.atomic():
        row, grants = locked(grant.quota, now)
        found = next((one for one in still_open(grants) if one.pk == grant.pk), None)
        if found is None:
            raise Conflict("This grant is spent or has expired.", code="grant_closed")
        found.closed_at = now
        row.granted -= found.remaining
        row.grants_expire_at = min((at for one in still_open(grants) if (at := one.expires_at)), default=None)
        fit(row)
        save([row], grants, now)
        audit.record("quota.grant_revoked", by=by, target=row, amount=found.remaining, reason=reason)


def _save(row: Quota, grants: list[Grant], now: datetime) -> None:
    fit(row)
    save([row], grants, now)
    if row.reset_date is None:
        # No new period will tell anew when its limit is reached.
        Event.objects.filter(quota=row).update(quota=None)


def _check_amount(amount: int, *, least: int, param: str) -> None:
    if not least <= amount <= MOST_AMOUNT:
        raise InvalidInput(f"The {param} is a whole number from {least} to {MOST_AMOUNT}.", param=param)


def _not_of_a_key(quota: Quota) -> None:
    if quota.api_key_id is not None:
        raise InvalidInput("This is the budget of an API key. It is set with the key's other budgets.")
