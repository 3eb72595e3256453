"""Single limits of plans."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from django.db import transaction

from accounts import audit
from accounts.caller import Caller
from accounts.models import User
from quotas.meters import Cycle, Meter
from quotas.models import Plan, PlanLimit
from quotas.services.plans import plan_limits_changed


@dataclass(frozen=True, slots=True)
class Terms:
    """What a plan says about one meter in one period."""

    limit: int
    cycle: str = Cycle.CALENDAR
    soft_threshold: int = 80
    overage_allowed: bool = False


def set_plan_limit(*, plan: Plan, meter: Meter, period: str, terms: Terms, by: Caller | User) -> bool:
    """Let a plan have these terms; whether they are other ones than before.

    The quotas of the plan's subscribers follow when `apply_plan_limits` is run.
    """
    said = asdict(terms)
    with transaction.atomic():
        Plan.objects.select_for_update(no_key=True).get(pk=plan.pk)
        kind: dict[str, Any] = {"plan": plan, "resource_type": meter.resource, "unit": meter.unit, "period": period}
        if PlanLimit.objects.filter(**kind, **said).exists():
            return False
        limit, _created = PlanLimit.objects.update_or_create(**kind, defaults=said)
        plan_limits_changed(plan=plan)
        audit.record("plan.updated", by=by, target=plan, fields=[f"limits: {limit}"])
        return True
