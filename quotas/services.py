"""Everything that writes plans, subscriptions, quotas and reservations."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import F, Value
from django.db.models.functions import Greatest
from django.utils import timezone

from accounts import audit
from accounts.caller import Caller
from accounts.exceptions import InvalidInput, NotAuthenticated
from accounts.ids import uuid7
from accounts.merging import current_id, hold_user
from accounts.models import User
from quotas import ledger
from quotas.budgets import current_budgets
from quotas.exceptions import (
    IdempotencyMismatch,
    KeyBudgetExceeded,
    QuotaExceeded,
    ReservationNotFound,
    ReservationNotHeld,
)
from quotas.ledger import Also, Amounts
from quotas.meters import period_end
from quotas.models import Plan, PlanLimit, Quota, Reservation, Subscription

BATCH = 1000


@dataclass(frozen=True, slots=True)
class Hold:
    """An admitted reservation."""

    id: UUID
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether amounts would be admitted now; `refusal` is what `reserve` would raise."""

    quotas: list[Quota]
    budgets: list[Quota]
    refusal: QuotaExceeded | None


# Holds -----------------------------------------------------------------------------------------------------------


def reserve(
    *,
    user_id: UUID,
    amounts: Amounts,
    seconds: int,
    api_key_id: UUID | None = None,
    idempotency_key: str | None = None,
    reservation_id: UUID | None = None,
    by_client: bool = False,
    also: Also | None = None,
) -> Hold:
    """Hold `amounts` on every quota of the user that they touch, all or nothing, for `seconds`.

    `api_key_id` is the key that calls, whose budgets have to admit the amounts too, also when it calls for somebody
    else than its owner. A meter without a quota is not limited, as long as another meter of the same resource in
    `amounts` has one; a resource without any is not in the user's plan. Only a hold that is made `by_client` can be
    ended over the API. `also` is written in the same statement if the hold is admitted. Raises `QuotaExceeded`, and of
    it `KeyBudgetExceeded`; `IdempotencyMismatch` if the idempotency key was used for other amounts; `InvalidInput` on
    negative amounts.
    """
    if not amounts or min(amounts.values()) < 0:
        raise InvalidInput("Amounts must be given and must not be negative.", param="amounts")
    wanted = _Wanted(
        reservation_id=reservation_id or uuid7(),
        user_id=user_id,
        api_key_id=api_key_id,
        amounts=amounts,
        seconds=seconds,
        idempotency_key=idempotency_key,
        by_client=by_client,
        also=also,
    )
    if idempotency_key is None:
        return _reserve(wanted)
    if held := _held_before(user_id, amounts, idempotency_key):
        return held
    try:
        with transaction.atomic():
            return _reserve(wanted)
    except IntegrityError:
        # The key may be known of the user that this one was merged into meanwhile.
        held = _held_before(current_id(user_id), amounts, idempotency_key)
        if held is None:
            raise
        return held


def settle(*, reservation_id: UUID, used: Amounts, also: Also | None = None) -> None:
    """Replace a hold by what was really used, also when the hold has expired meanwhile.

    What exceeds the hold is charged as far as the quota has room, so that no quota is ever overspent. `also` is written
    in the same statement. Raises `ReservationNotHeld` if the reservation was settled or released before.
    """
    now = timezone.now()
    if ledger.settle(id=reservation_id, used=used, now=now, also=also):
        return
    if not ledger.settle(id=reservation_id, used=used, now=now, late=True):
        raise ReservationNotHeld


def confirm(*, reservation: Reservation, used: Amounts) -> None:
    """Settle a client's reservation; `InvalidInput` if a meter is named that it does not hold."""
    if unknown := {str(meter) for meter in used} - reservation.amounts.keys():
        raise InvalidInput(f"The reservation does not hold {', '.join(sorted(unknown))}.", param="amounts")
    settle(reservation_id=reservation.pk, used=used)


def release(*, reservation_id: UUID) -> None:
    """Let a hold go without a charge; `ReservationNotHeld` if it is not held any more."""
    if not ledger.release(id=reservation_id, status=Reservation.Status.RELEASED, now=timezone.now()):
        raise ReservationNotHeld


def consume(
    *, user_id: UUID, amounts: Amounts, api_key_id: UUID | None = None, idempotency_key: str | None = None
) -> None:
    """Reserve and settle in one transaction: for work that is already done or costs nothing to refuse.

    Its idempotency keys are apart from those of reservations, which may be released.
    """
    key = None if idempotency_key is None else f"usage:{idempotency_key}"
    with transaction.atomic():
        hold = reserve(user_id=user_id, amounts=amounts, seconds=60, api_key_id=api_key_id, idempotency_key=key)
        ledger.settle(id=hold.id, used=amounts, now=timezone.now())


def sweep_expired(*, now: datetime | None = None) -> int:
    """Release the holds whose time is over; how many there were."""
    now = now or timezone.now()
    swept = 0
    for reservation_id in Reservation.objects.expired(now).values_list("id", flat=True).order_by("id")[:BATCH]:
        swept += ledger.release(id=reservation_id, status=Reservation.Status.EXPIRED, now=now)
    return swept


def own_reservation(*, reservation_id: UUID, user_id: UUID) -> Reservation:
    """The reservation, if it is the user's and made over the API; else `ReservationNotFound`."""
    found = Reservation.objects.of_client(user_id).filter(pk=reservation_id).first()
    if found is None:
        raise ReservationNotFound
    return found


def check(*, user_id: UUID, amounts: Amounts, api_key_id: UUID | None = None) -> Verdict:
    """What `reserve` would say, without holding anything."""
    resources = {meter.resource for meter in amounts}
    quotas = current_quotas(user_id=user_id)
    if not resources <= {quota.resource_type for quota in quotas}:
        provision(user_id=user_id)
        quotas = current_quotas(user_id=user_id)
    quotas = [quota for quota in quotas if quota.resource_type in resources]
    budgets = current_budgets(key_id=api_key_id) if api_key_id is not None else []
    budgets = [budget for budget in budgets if budget.resource_type in resources]
    if not resources <= {quota.resource_type for quota in quotas if quota.meter in amounts}:
        return Verdict(quotas, budgets, QuotaExceeded())
    for quota in (quota for quota in [*quotas, *budgets] if quota.meter in amounts):
        if not quota.overage_allowed and quota.remaining < amounts[quota.meter]:
            return Verdict(quotas, budgets, _exceeded(quota, of_key=quota.api_key_id is not None))
    return Verdict(quotas, budgets, None)


@dataclass(frozen=True, slots=True)
class _Wanted:
    reservation_id: UUID
    user_id: UUID
    api_key_id: UUID | None
    amounts: Amounts
    seconds: int
    idempotency_key: str | None
    by_client: bool
    also: Also | None


def _reserve(wanted: _Wanted) -> Hold:
    hold, rows = _try_reserve(wanted)
    if hold is None and not _includes(rows, wanted.amounts):
        _provision_current(wanted.user_id)
        hold, rows = _try_reserve(wanted)
    if hold is None and not all(row.is_current for row in rows):
        reset_due(user_id=wanted.user_id, api_key_id=wanted.api_key_id)
        hold, rows = _try_reserve(wanted)
    if hold is None:
        raise _refusal(rows, wanted.amounts)
    return hold


def _provision_current(user_id: UUID) -> None:
    """Provision the user, or the one that this one became; who may be merged on just then."""
    current = current_id(user_id)
    try:
        provision(user_id=current)
    except NotAuthenticated:
        became = current_id(user_id)
        if became == current:
            raise
        provision(user_id=became)


def _try_reserve(wanted: _Wanted) -> tuple[Hold | None, list[ledger.Row]]:
    now = timezone.now()
    expires_at = now + timedelta(seconds=wanted.seconds)
    rows = ledger.reserve(
        id=wanted.reservation_id,
        user_id=wanted.user_id,
        api_key_id=wanted.api_key_id,
        amounts=wanted.amounts,
        idempotency_key=wanted.idempotency_key,
        by_client=wanted.by_client,
        now=now,
        expires_at=expires_at,
        also=wanted.also,
    )
    admitted = _includes(rows, wanted.amounts) and all(row.is_current and row.fits for row in rows)
    return (Hold(wanted.reservation_id, expires_at) if admitted else None), rows


def _includes(rows: list[ledger.Row], amounts: Amounts) -> bool:
    """Whether every resource has at least one quota of the user's own."""
    return {row.meter.resource for row in rows if not row.of_key} == {meter.resource for meter in amounts}


def _refusal(rows: list[ledger.Row], amounts: Amounts) -> QuotaExceeded:
    if not _includes(rows, amounts):
        return QuotaExceeded()
    # The user's own first: what they refuse, a larger budget would not let in either.
    tight = sorted((row for row in rows if not row.fits), key=lambda row: row.of_key)
    return _exceeded(tight[0], of_key=tight[0].of_key) if tight else QuotaExceeded()


def _exceeded(found: Quota | ledger.Row, *, of_key: bool) -> QuotaExceeded:
    error = KeyBudgetExceeded if of_key else QuotaExceeded
    return error(meter=found.meter, limit=found.limit, remaining=found.remaining, resets_at=found.reset_date)


def _held_before(user_id: UUID, amounts: Amounts, idempotency_key: str) -> Hold | None:
    found = Reservation.objects.filter(user_id=user_id, idempotency_key=idempotency_key).first()
    if found is None:
        return None
    if found.amounts != {str(meter): amount for meter, amount in amounts.items()}:
        raise IdempotencyMismatch
    return Hold(found.id, found.expires_at)


# Quotas ----------------------------------------------------------------------------------------------------------


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


def current_subscription(*, user_id: UUID) -> Subscription | None:
    """The user's subscription that has not ended, or an unsaved one to the default plan, without a period.

    None only where there is no default plan.
    """
    found = Subscription.objects.live().filter(user_id=user_id).select_related("plan").first()
    if found is not None:
        return found
    plan = Plan.objects.filter(is_default=True).first()
    if plan is None:
        return None
    # Only what is saved must have a beginning.
    return Subscription(user_id=user_id, plan=plan, current_period_start=None)  # type: ignore[misc]


def provision(*, user_id: UUID) -> None:
    """Make sure the user has a subscription (the default plan's, if none) and the quotas of its plan.

    `NotAuthenticated` if the user is not active: who was merged into another, must get no rows any more.
    """
    with transaction.atomic():
        hold_user(user_id)
        live = Subscription.objects.live()
        if not live.filter(user_id=user_id).exists():
            plan = Plan.objects.filter(is_default=True).first()
            if plan is None:
                return
            Subscription.objects.bulk_create([Subscription(user_id=user_id, plan=plan)], ignore_conflicts=True)
        _add_missing_quotas(user_id, live.select_related("plan").get(user_id=user_id).plan)


def change_plan(*, user_id: UUID, plan: Plan, by: Caller | User) -> None:
    """Move a user to `plan` at once: usage stays, limits move, open grants stay until their period ends.

    Of a resource that `plan` leaves out, nothing more is admitted. Of one that it measures in another way, the quotas
    that it does not know are dropped: nothing limits what they measured any more.
    """
    with transaction.atomic():
        provision(user_id=user_id)
        subscription = Subscription.objects.live().select_for_update(no_key=True).get(user_id=user_id)
        former = subscription.plan_id
        subscription.plan = plan
        subscription.save()
        bases = {(limit.resource_type, limit.unit, limit.period): limit for limit in plan.limits.all()}
        resources = {resource for resource, _unit, _period in bases}
        for quota in Quota.objects.of_user(user_id).order_by("id").select_for_update(no_key=True):
            limit = bases.get((quota.resource_type, quota.unit, quota.period))
            if limit is None and quota.resource_type in resources:
                quota.delete()
                continue
            quota.base_limit = limit.limit if limit else 0
            quota.overage_allowed = limit.overage_allowed if limit else False
            quota.soft_threshold = limit.soft_threshold if limit else quota.soft_threshold
            quota.limit = max(quota.base_limit + quota.granted, quota.current_usage + quota.held)
            quota.save()
        _add_missing_quotas(user_id, plan)
        audit.record("plan.changed", by=by, target=subscription, former=str(former), plan=plan.slug)


def set_default_plan(*, plan: Plan, by: Caller | User) -> None:
    """Let new users begin on `plan`. There is exactly one default, so the former one stops being it."""
    with transaction.atomic():
        # Locks all of them: two operators at once end with one default, and no error.
        former = [row.slug for row in Plan.objects.select_for_update().order_by("id") if row.is_default]
        Plan.objects.filter(is_default=True).exclude(pk=plan.pk).update(is_default=False, updated_at=timezone.now())
        Plan.objects.filter(pk=plan.pk).update(is_default=True, updated_at=timezone.now())
        audit.record("plan.made_default", by=by, target=plan, former=former)


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


def _add_missing_quotas(user_id: UUID, plan: Plan) -> None:
    now = timezone.now()
    limits = PlanLimit.objects.filter(plan=plan)
    Quota.objects.bulk_create(
        [
            Quota(
                user_id=user_id,
                resource_type=limit.resource_type,
                unit=limit.unit,
                period=limit.period,
                base_limit=limit.limit,
                limit=limit.limit,
                soft_threshold=limit.soft_threshold,
                overage_allowed=limit.overage_allowed,
                reset_date=period_end(limit.period, now),
            )
            for limit in limits
        ],
        ignore_conflicts=True,
    )


def _not_of_a_key(quota: Quota) -> None:
    if quota.api_key_id is not None:
        raise InvalidInput("This is the budget of an API key. It is set with the key's other budgets.")
