"""Which plan a user is on, and the quotas that come of it."""

from __future__ import annotations

from uuid import UUID

from django.db import transaction
from django.utils import timezone

from accounts import audit
from accounts.caller import Caller
from accounts.merging import hold_user
from accounts.models import User
from accounts.snapshots import drop_snapshots
from quotas import plan_rates
from quotas.meters import period_end
from quotas.models import Plan, PlanLimit, Quota, Subscription


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
        move_quotas(user_id=user_id, plan=plan)
        drop_snapshots(user_id)
        audit.record("plan.changed", by=by, target=subscription, former=str(former), plan=plan.slug)


def move_quotas(*, user_id: UUID, plan: Plan) -> None:
    """Give a user the limits of `plan`, in the caller's transaction; what is used, held and granted stays."""
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


def set_default_plan(*, plan: Plan, by: Caller | User) -> None:
    """Let new users begin on `plan`. There is exactly one default, so the former one stops being it."""
    with transaction.atomic():
        # Locks all of them: two operators at once end with one default, and no error.
        former = [row.slug for row in Plan.objects.select_for_update().order_by("id") if row.is_default]
        Plan.objects.filter(is_default=True).exclude(pk=plan.pk).update(is_default=False, updated_at=timezone.now())
        Plan.objects.filter(pk=plan.pk).update(is_default=True, updated_at=timezone.now())
        plan_rates.publish(plan=Plan.objects.get(pk=plan.pk))
        audit.record("plan.made_default", by=by, target=plan, former=former)


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
