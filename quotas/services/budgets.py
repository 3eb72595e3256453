"""Budgets of API keys: quotas that bound one key, and that its owner sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from accounts import audit
from accounts.caller import Caller
from accounts.exceptions import Conflict, InvalidInput, NotFound
from accounts.models import ApiKey, User
from accounts.scopes import Scope
from quotas.meters import Meter, each, period_end
from quotas.models import Quota
from quotas.pools import fit
from quotas.services.periods import reset_due

MOST_BUDGETS = 20
MOST_LIMIT = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Budget:
    """What an API key may use of one meter in one period, whatever its owner may."""

    meter: Meter
    period: str
    limit: int

    def __str__(self) -> str:
        return f"{self.meter} {each(self.period)}"


def current_budgets(*, key_id: UUID) -> list[Quota]:
    """The budgets of one key as they stand now: periods that are over begun anew."""
    of_key = Quota.objects.of_key(key_id)
    budgets = list(of_key.all())
    now = timezone.now()
    if any(budget.is_due(now) for budget in budgets):
        reset_due(api_key_id=key_id, now=now)
        budgets = list(of_key.all())
    return budgets


def own_key_budgets(*, key_id: UUID, user_id: UUID) -> list[Quota]:
    """The budgets of one of the user's keys; `NotFound` if the key is not theirs."""
    if not ApiKey.objects.filter(pk=key_id, user_id=user_id).exists():
        raise NotFound("No such API key.")
    return current_budgets(key_id=key_id)


def set_key_budgets(
    *, key_id: UUID, user_id: UUID, budgets: Sequence[Budget], by: Caller | User, reason: str = ""
) -> None:
    """Replace all budgets of one of the user's keys.

    One that stays keeps what is used and held, under which its limit cannot fall before the running period ends. One
    that goes takes its holds along: running calls are settled without it. Raises `NotFound` if the key is not the
    user's, `Conflict` if it could lift its own budget, `InvalidInput` on too many, on two of a kind and on a limit that
    is not positive.
    """
    limits = _limits_by_kind(budgets)
    with transaction.atomic():
        key = ApiKey.objects.select_for_update(no_key=True).filter(pk=key_id, user_id=user_id).first()
        if key is None:
            raise NotFound("No such API key.")
        if budgets and Scope.ADMIN in key.scopes:
            raise Conflict("A key that manages the account could lift its own budget.", code="key_manages_account")
        former = list(Quota.objects.of_key(key_id).order_by("id").select_for_update(no_key=True))
        audit.record(
            "api_key.budgets_changed",
            by=by,
            target=key,
            former={str(row): row.base_limit for row in former},
            budgets={str(budget): budget.limit for budget in budgets},
            reason=reason,
        )
        for row in former:
            _change_budget(row, limits.pop((row.meter, row.period), None))
        _add_budgets(key, limits)


_Limits = dict[tuple[Meter, str], int]


def _limits_by_kind(budgets: Sequence[Budget]) -> _Limits:
    if len(budgets) > MOST_BUDGETS:
        raise InvalidInput(f"A key has at most {MOST_BUDGETS} budgets.")
    limits: _Limits = {}
    for budget in budgets:
        if not 0 < budget.limit <= MOST_LIMIT:
            raise InvalidInput(f"A limit is a whole number from 1 to {MOST_LIMIT}.", param="limit")
        if (budget.meter, budget.period) in limits:
            raise InvalidInput(f"There are two budgets of {budget}.", code="duplicate")
        limits[budget.meter, budget.period] = budget.limit
    return limits


def _change_budget(row: Quota, limit: int | None) -> None:
    if limit is None:
        row.delete()
    elif limit != row.base_limit:
        row.base_limit = limit
        fit(row)
        row.save()


def _add_budgets(key: ApiKey, limits: _Limits) -> None:
    now = timezone.now()
    Quota.objects.bulk_create(
        Quota(
            user_id=key.user_id,
            api_key=key,
            resource_type=meter.resource,
            unit=meter.unit,
            period=period,
            base_limit=limit,
            limit=limit,
            reset_date=period_end(period, now),
        )
        for (meter, period), limit in limits.items()
    )
