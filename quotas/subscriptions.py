"""The life of subscriptions on our side: what operators do to those that Stripe does not sell, and what time does."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from accounts import audit
from accounts.caller import Caller
from accounts.exceptions import Conflict, InvalidInput
from accounts.models import User
from quotas import services
from quotas.meters import Period, period_end
from quotas.models import Plan, Subscription

Status = Subscription.Status

BATCH = 1000
MOST_TRIAL_DAYS = 730


def change_at_period_end(*, user_id: UUID, plan: Plan, by: Caller | User, reason: str = "") -> None:
    """Let the plan become another when the running month of the subscription is over.

    The present plan calls off what was planned before; `Conflict` if nothing was.
    """
    with transaction.atomic():
        subscription = lock_local(user_id)
        if subscription.plan_id == plan.pk:
            if not subscription.awaits_something:
                raise same_plan(plan)
            _call_off(subscription, by=by, reason=reason)
            return
        _fix_period(subscription, timezone.now())
        subscription.next_plan, subscription.cancel_at_period_end, subscription.canceled_at = plan, False, None
        subscription.save()
        audit.record("billing.change_planned", by=by, target=subscription, plan=plan.slug, reason=reason)


def start_trial(*, user_id: UUID, plan: Plan, days: int, by: Caller | User, reason: str = "") -> None:
    """Let a user try `plan` for `days`, after which the default plan is theirs. A running trial becomes this one."""
    if not 0 < days <= MOST_TRIAL_DAYS:
        raise InvalidInput(f"A trial takes 1 to {MOST_TRIAL_DAYS} days.", param="days")
    with transaction.atomic():
        subscription = lock_local(user_id)
        subscription.plan, subscription.next_plan = plan, None
        subscription.status, subscription.cancel_at_period_end = Status.TRIALING, False
        subscription.current_period_start, subscription.canceled_at = timezone.now(), None
        subscription.trial_end = subscription.current_period_start + timedelta(days=days)
        subscription.current_period_end = subscription.trial_end
        subscription.save()
        services.move_quotas(user_id=user_id, plan=plan)
        audit.record("billing.trial_started", by=by, target=subscription, plan=plan.slug, days=days, reason=reason)


def cancel(*, user_id: UUID, by: Caller | User, reason: str = "") -> None:
    """Let the subscription end with its running month. `Conflict` if it is the default plan's, which does not end."""
    with transaction.atomic():
        subscription = _lock_ending(user_id)
        if subscription.cancel_at_period_end:
            raise Conflict("The subscription ends with its period already.", code="already_canceled")
        _fix_period(subscription, timezone.now())
        subscription.cancel_at_period_end, subscription.next_plan = True, None
        subscription.canceled_at = timezone.now()
        subscription.save()
        audit.record("billing.cancel_planned", by=by, target=subscription, reason=reason)


def resume(*, user_id: UUID, by: Caller | User, reason: str = "") -> None:
    """Call off what was planned for the end of the period: an end, or another plan."""
    with transaction.atomic():
        subscription = lock_local(user_id)
        check_awaits_something(subscription)
        _call_off(subscription, by=by, reason=reason)


def end_now(*, user_id: UUID, by: Caller | User, reason: str = "") -> None:
    """End the subscription; the user is on the default plan at once."""
    with transaction.atomic():
        subscription = _lock_ending(user_id)
        end(subscription)
        begin_default(user_id)
        audit.record("billing.ended", by=by, target=subscription, reason=reason)


def end_unknown(*, sold: Subscription, by: Caller | User, reason: str = "") -> None:
    """End what Stripe does not know, on our side alone; `Conflict` if the user has something else by now."""
    with transaction.atomic():
        subscription = services.lock_subscription(sold.user_id)
        if subscription.pk != sold.pk:
            raise Conflict("The user has another subscription by now.", code="subscription_ended")
        end(subscription)
        begin_default(sold.user_id)
        audit.record("billing.ended", by=by, target=subscription, reason=reason, known_to_stripe=False)


def same_plan(plan: Plan) -> Conflict:
    return Conflict(f"The plan is {plan} already.", code="same_plan")


def lock_local(user_id: UUID) -> Subscription:
    """The user's live subscription, locked; `Conflict` if Stripe sells it."""
    subscription = services.lock_subscription(user_id)
    if subscription.stripe_subscription_id is not None:
        raise Conflict("This subscription is sold by Stripe, and has to be changed there.", code="sold_by_stripe")
    return subscription


def check_awaits_something(subscription: Subscription) -> None:
    if not subscription.awaits_something:
        raise Conflict("Nothing is planned for the end of the period.", code="nothing_to_resume")


def end(subscription: Subscription, *, status: str = Status.CANCELED, at: datetime | None = None) -> None:
    """Write that a subscription has ended, in the caller's transaction, which has to see to what comes after it."""
    subscription.status, subscription.canceled_at = status, at or timezone.now()
    subscription.is_suspended = subscription.cancel_at_period_end = False
    subscription.next_plan = subscription.grace_until = None
    subscription.save()


def begin_default(user_id: UUID) -> Subscription | None:
    """Put a user whose subscription has ended on the default plan, in the caller's transaction; usage stays."""
    plan = Plan.objects.filter(is_default=True).first()
    if plan is None:
        return None
    subscription = Subscription.objects.create(user_id=user_id, plan=plan)
    services.move_quotas(user_id=user_id, plan=plan)
    return subscription


# What time does ------------------------------------------------------------------------------------------------------


def advance_due(*, now: datetime | None = None) -> int:
    """End graces and local trials that are over, and do what was planned for periods that are; how many there were.

    What Stripe sells, Stripe advances. Each is done in a transaction of its own, and only once.
    """
    now = now or timezone.now()
    due = Subscription.objects.filter(_grace_over(now) | _trial_over(now) | _period_over(now))
    users = list(due.order_by("id").values_list("user_id", flat=True)[:BATCH])
    return sum(_advance(user_id, now) for user_id in users)


def _grace_over(now: datetime) -> Q:
    return Q(status=Status.PAST_DUE, is_suspended=False, grace_until__lte=now)


def _trial_over(now: datetime) -> Q:
    return Q(stripe_subscription_id=None, status=Status.TRIALING, trial_end__lte=now, next_plan=None)


def _period_over(now: datetime) -> Q:
    planned = Q(cancel_at_period_end=True) | Q(next_plan__isnull=False)
    return Q(planned, stripe_subscription_id=None, current_period_end__lte=now)


def _advance(user_id: UUID, now: datetime) -> bool:
    with transaction.atomic():
        list(User.objects.select_for_update(no_key=True).filter(pk=user_id).values_list("pk"))
        live = Subscription.objects.live().filter(user_id=user_id)
        return _end_grace(live, now) or _end_trial(live, now) or _end_period(live, now)


def _end_grace(live: QuerySet[Subscription], now: datetime) -> bool:
    if not live.filter(_grace_over(now)).update(is_suspended=True, updated_at=timezone.now()):
        return False
    subscription = live.select_related("plan").get()
    services.move_quotas(user_id=subscription.user_id, plan=services.plan_that_counts(subscription))
    audit.record("billing.grace_ended", by=None, target=subscription, plan=subscription.plan.slug)
    return True


def _end_trial(live: QuerySet[Subscription], now: datetime) -> bool:
    return _end_for(live.filter(_trial_over(now)), "billing.trial_ended")


def _end_period(live: QuerySet[Subscription], now: datetime) -> bool:
    over = live.filter(_period_over(now))
    if _end_for(over.filter(cancel_at_period_end=True), "billing.ended"):
        return True
    subscription = over.select_related("plan", "next_plan").first()
    if subscription is None or subscription.next_plan is None:
        return False
    former, subscription.plan, subscription.next_plan = subscription.plan, subscription.next_plan, None
    subscription.status = Status.ACTIVE
    _fix_period(subscription, now)
    subscription.save()
    services.move_quotas(user_id=subscription.user_id, plan=subscription.plan)
    audit.record("plan.changed", by=None, target=subscription, former=str(former.pk), plan=subscription.plan.slug)
    return True


def _end_for(over: QuerySet[Subscription], action: str) -> bool:
    subscription = over.select_related("plan").first()
    if subscription is None:
        return False
    end(subscription)
    begin_default(subscription.user_id)
    audit.record(action, by=None, target=subscription, plan=subscription.plan.slug)
    return True


def _lock_ending(user_id: UUID) -> Subscription:
    subscription = lock_local(user_id)
    if subscription.plan.is_default and subscription.status == Status.ACTIVE:
        raise Conflict("The default plan does not end.", code="default_plan")
    return subscription


def _call_off(subscription: Subscription, *, by: Caller | User, reason: str) -> None:
    subscription.cancel_at_period_end, subscription.next_plan, subscription.canceled_at = False, None, None
    subscription.save()
    audit.record("billing.resumed", by=by, target=subscription, reason=reason)


def _fix_period(subscription: Subscription, now: datetime) -> None:
    """Name the month that runs: nobody bills a local subscription, so its periods are only counted when asked for."""
    if subscription.current_period_end is not None:
        if subscription.current_period_end > now:
            return
        subscription.current_period_start = subscription.current_period_end
    subscription.current_period_end = period_end(Period.MONTH, now, subscription.anchored_at)
