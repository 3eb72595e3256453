"""Which plan a user is on, and the quotas that come of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from accounts import audit
from accounts.caller import Caller
from accounts.exceptions import Conflict, NotFound
from accounts.merging import hold_user, hold_users
from accounts.models import User
from accounts.snapshots import drop_snapshots
from quotas import plan_rates
from quotas.meters import Cycle, Period, period_end
from quotas.models import LimitFields, Plan, PlanLimit, Quota, Subscription
from quotas.pools import fit
from quotas.services.periods import roll_all, save

SUBSCRIBERS = 500


def current_subscription(*, user_id: UUID) -> Subscription | None:
    """The user's subscription that has not ended, or an unsaved one to the default plan, without a period.

    None only where there is no default plan.
    """
    found = Subscription.objects.live().filter(user_id=user_id).select_related("plan", "next_plan").first()
    if found is not None:
        return found
    plan = Plan.objects.filter(is_default=True).first()
    if plan is None:
        return None
    # Only what is saved must have a beginning.
    return Subscription(user_id=user_id, plan=plan, current_period_start=None)  # type: ignore[misc]


def plan_that_counts(subscription: Subscription) -> Plan:
    """The plan whose limits and features the user has: the default one while theirs is not paid for."""
    default = Plan.objects.filter(is_default=True).first() if subscription.is_suspended else None
    return default or subscription.plan


def lock_subscription(user_id: UUID) -> Subscription:
    """The user's live subscription, made if there is none, which nobody else begins, changes or ends meanwhile.

    In the caller's transaction. `NotFound` if there is no such user or no default plan, `NotAuthenticated` if the user
    is not active.
    """
    if not User.objects.select_for_update(no_key=True).filter(pk=user_id).order_by("pk").exists():
        raise NotFound("No such user.")
    provision(user_id=user_id)
    live = Subscription.objects.live().filter(user_id=user_id).select_related("plan", "next_plan")
    found = live.select_for_update(of=("self",), no_key=True).first()
    if found is None:
        raise NotFound("There is no plan.")
    return found


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
        # Whoever adds quotas holds the subscription: two who do, or who change the plan, never wait for each other.
        subscription = live.select_for_update(no_key=True).get(user_id=user_id)
        anchors = {user_id: subscription.anchored_at}
        _add_missing_quotas(anchors, plan_that_counts(subscription), timezone.now())


def change_plan(*, user_id: UUID, plan: Plan, by: Caller | User, reason: str = "") -> None:
    """Move a user to `plan` at once: usage stays, limits move, open grants and limits agreed with the user stay.

    Of a resource that `plan` leaves out, nothing more is admitted. Of one that it measures in another way, the quotas
    that it does not know are dropped, with their grants: nothing limits what they measured any more. What was planned
    for the end of the period is called off. `Conflict` for what Stripe sells: it would be changed back.
    """
    with transaction.atomic():
        subscription = lock_subscription(user_id)
        if subscription.stripe_subscription_id is not None:
            raise Conflict("This subscription is sold by Stripe, and has to be changed there.", code="sold_by_stripe")
        former = subscription.plan_id
        subscription.plan, subscription.next_plan = plan, None
        subscription.cancel_at_period_end, subscription.canceled_at = False, None
        subscription.save()
        move_quotas(user_id=user_id, plan=plan)
        audit.record("plan.changed", by=by, target=subscription, former=str(former), plan=plan.slug, reason=reason)


def move_quotas(*, user_id: UUID, plan: Plan) -> None:
    """Give a user the limits of `plan`, in the caller's transaction; what is used, held and granted stays."""
    _move([user_id], plan, timezone.now())
    drop_snapshots(user_id)


def plan_limits_changed(*, plan: Plan) -> None:
    """Note that the quotas of the plan's subscribers are to follow; `apply_plan_limits` sees to it."""
    Plan.objects.filter(pk=plan.pk).update(limits_changed_at=timezone.now())


def apply_plan_limits(*, plan_id: UUID) -> int:
    """Let the quotas of all who are on a plan follow its changed limits; how many users there were.

    May be run at any time and as often as one likes. What is changed while it runs is seen to by the next run.
    """
    plan = Plan.objects.filter(pk=plan_id).first()
    if plan is None:
        return 0
    total = 0
    for batch in _subscribers(plan):
        with transaction.atomic():
            hold_users(batch)
            live = _whose_plan_counts(plan).filter(user__in=batch)
            users = [one.user_id for one in live.order_by("user_id").select_for_update(no_key=True)]
            _move(users, plan, timezone.now())
        total += len(users)
    Plan.objects.filter(pk=plan.pk, limits_changed_at=plan.limits_changed_at).update(limits_changed_at=None)
    return total


def set_default_plan(*, plan: Plan, by: Caller | User) -> None:
    """Let new users begin on `plan`. There is exactly one default, so the former one stops being it."""
    with transaction.atomic():
        # Locks all of them: two operators at once end with one default, and no error.
        former = [row.slug for row in Plan.objects.select_for_update().order_by("id") if row.is_default]
        Plan.objects.filter(is_default=True).exclude(pk=plan.pk).update(is_default=False, updated_at=timezone.now())
        Plan.objects.filter(pk=plan.pk).update(is_default=True, updated_at=timezone.now())
        plan_rates.publish(plan=Plan.objects.get(pk=plan.pk))
        audit.record("plan.made_default", by=by, target=plan, former=former)


def _whose_plan_counts(plan: Plan) -> QuerySet[Subscription]:
    """The live subscriptions for which `plan_that_counts` is this one."""
    suspended = Q(is_suspended=True) if plan.is_default else Q(pk=None)
    return Subscription.objects.live().filter(Q(plan=plan, is_suspended=False) | suspended)


def _subscribers(plan: Plan) -> Iterator[list[UUID]]:
    """All who are on a plan, in the order of their ids, in batches."""
    users = _whose_plan_counts(plan).order_by("user_id").values_list("user_id", flat=True)
    batch = list(users[:SUBSCRIBERS])
    while batch:
        yield batch
        batch = list(users.filter(user_id__gt=batch[-1])[:SUBSCRIBERS])


def _move(user_ids: Sequence[UUID], plan: Plan, now: datetime) -> None:
    limits = {_kind(limit): limit for limit in plan.limits.all()}
    resources = {limit.resource_type for limit in limits.values()}
    anchors = dict(Subscription.objects.live().filter(user__in=user_ids).values_list("user_id", "anchored_at"))
    quotas = list(Quota.objects.filter(user__in=user_ids, api_key=None).order_by("id").select_for_update(no_key=True))
    grants = roll_all(quotas, now)
    dropped = []
    for quota in (quota for quota in quotas if not quota.is_override):
        limit = limits.get(_kind(quota))
        if limit is None and quota.resource_type in resources:
            dropped.append(quota.pk)
        else:
            follow(quota, limit, anchors.get(quota.user_id), now)
    save(quotas, grants, now)
    Quota.objects.filter(pk__in=dropped).delete()
    _add_missing_quotas(anchors, plan, now)


def follow(quota: Quota, limit: PlanLimit | None, anchored_at: datetime | None, now: datetime) -> None:
    """Let a locked quota have the terms of a plan's limit; without one, nothing more is admitted."""
    quota.is_override = False
    quota.base_limit = limit.limit if limit else 0
    quota.overage_allowed = limit.overage_allowed if limit else False
    if limit is not None:
        quota.soft_threshold = limit.soft_threshold
        anchor = anchor_of(limit, anchored_at)
        if anchor != quota.anchored_at:
            quota.anchored_at, quota.reset_date = anchor, period_end(quota.period, now, anchor)
    fit(quota)


def anchor_of(limit: PlanLimit, anchored_at: datetime | None) -> datetime | None:
    """What the periods of a limit are counted from, for a subscription that began then; None: the calendar's."""
    is_anchored = limit.cycle == Cycle.ANNIVERSARY and limit.period != Period.NONE
    return anchored_at if is_anchored else None


def _kind(row: LimitFields) -> tuple[str, str, str]:
    return row.resource_type, row.unit, row.period


def _add_missing_quotas(anchors: Mapping[UUID, datetime], plan: Plan, now: datetime) -> None:
    """What users, by whom their subscription's anchor is given, lack of the plan's quotas."""
    limits = list(PlanLimit.objects.filter(plan=plan))
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
                anchored_at=(anchor := anchor_of(limit, anchored_at)),
                reset_date=period_end(limit.period, now, anchor),
            )
            for user_id, anchored_at in anchors.items()
            for limit in limits
        ],
        ignore_conflicts=True,
    )
