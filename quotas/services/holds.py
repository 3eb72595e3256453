"""Holding amounts on quotas, and ending the holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone

from accounts.exceptions import InvalidInput, NotAuthenticated
from accounts.ids import uuid7
from accounts.merging import current_id
from quotas import ledger, thresholds
from quotas.exceptions import (
    KeyBudgetExceeded,
    QuotaExceeded,
    ReservationNotFound,
    ReservationNotHeld,
)
from quotas.ledger import Also, Amounts
from quotas.models import Quota, Reservation
from quotas.services.allowances import current_quotas
from quotas.services.budgets import current_budgets
from quotas.services.periods import reset_due
from quotas.services.plans import provision

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


def reserve(
    *,
    user_id: UUID,
    amounts: Amounts,
    seconds: int,
    api_key_id: UUID | None = None,
    idempotency_key: str = "",
    reservation_id: UUID | None = None,
    by_client: bool = False,
    also: Also | None = None,
) -> Hold:
    """Hold `amounts` on every quota of the user that they touch, all or nothing, for `seconds`.

    `api_key_id` is the key that calls, whose budgets have to admit the amounts too, also when it calls for somebody
    else than its owner. A meter without a quota is not limited, as long as another meter of the same resource in
    `amounts` has one; a resource without any is not in the user's plan. Only a hold that is made `by_client` can be
    ended over the API. `idempotency_key` is only noted; `quotas.idempotency` acts on it. `also` is written in the same
    statement if the hold is admitted. Raises `QuotaExceeded`, and of it `KeyBudgetExceeded`; `InvalidInput` on negative
    amounts.
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
    return _reserve(wanted)


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


@contextmanager
def holding() -> Iterator[None]:
    """A transaction for a hold and what belongs to it. A refusal, which undoes all of it, is noted after that."""
    try:
        with transaction.atomic():
            yield
    except QuotaExceeded as refusal:
        _note(refusal)
        raise


def consume(*, user_id: UUID, amounts: Amounts, api_key_id: UUID | None = None, idempotency_key: str = "") -> None:
    """Reserve and settle in one transaction: for work that is already done or costs nothing to refuse."""
    with holding():
        hold = reserve(
            user_id=user_id, amounts=amounts, seconds=60, api_key_id=api_key_id, idempotency_key=idempotency_key
        )
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
            refusal = _exceeded(quota, amounts[quota.meter], of_key=quota.api_key_id is not None)
            return Verdict(quotas, budgets, refusal)
    return Verdict(quotas, budgets, None)


@dataclass(frozen=True, slots=True)
class _Wanted:
    reservation_id: UUID
    user_id: UUID
    api_key_id: UUID | None
    amounts: Amounts
    seconds: int
    idempotency_key: str
    by_client: bool
    also: Also | None


def _reserve(wanted: _Wanted) -> Hold:
    hold, rows = _try_reserve(wanted)
    if hold is None and not _includes(rows, wanted.amounts):
        _provision_current(wanted.user_id)
        hold, rows = _try_reserve(wanted)
    if hold is None and not all(row.is_current for row in rows):
        # Only those which the first try has locked: in a larger transaction, no others may be locked after them.
        reset_due(quota_ids=[row.id for row in rows])
        hold, rows = _try_reserve(wanted)
    if hold is None:
        refusal = _refusal(rows, wanted.amounts)
        refusal.quota_ids = [row.id for row in rows if row.is_current and not row.fits]
        _note(refusal)
        raise refusal
    return hold


def _note(refusal: QuotaExceeded) -> None:
    """Not within a transaction, which the refusal undoes: `holding` does it then."""
    if not connection.in_atomic_block:
        thresholds.note_refusal(quota_ids=refusal.quota_ids)


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
    return _exceeded(tight[0], tight[0].amount, of_key=tight[0].of_key) if tight else QuotaExceeded()


def _exceeded(found: Quota | ledger.Row, needed: int, *, of_key: bool) -> QuotaExceeded:
    error = KeyBudgetExceeded if of_key else QuotaExceeded
    return error(
        meter=found.meter,
        limit=found.limit,
        remaining=found.remaining,
        needed=needed,
        resets_at=found.reset_date,
    )
