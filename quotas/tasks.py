from typing import Any
from uuid import UUID

import structlog
from celery import shared_task

from accounts import mail
from accounts.tasks import RETRIES, enqueue
from quotas import (
    deliveries,
    events,
    exposures,
    notices,
    services,
    stripe_api,
    stripe_catchup,
    subscriptions,
)
from quotas.exceptions import StripeUnavailable
from quotas.models import Event, Plan

log = structlog.get_logger(__name__)

# A Stripe that does not answer is asked again after about 30 seconds, then ever later, for half a day.
STRIPE_RETRIES: dict[str, Any] = {
    "autoretry_for": (StripeUnavailable,),
    "max_retries": 12,
    "retry_backoff": 30,
    "retry_backoff_max": 7200,
}


@shared_task(name="quotas.tasks.reset_quotas")
def reset_quotas() -> None:
    """Begin new periods for users who do not call, so that what they are shown is true; callers reset lazily."""
    services.reset_due()


@shared_task(name="quotas.tasks.apply_plan_limits")
def apply_plan_limits(plan_id: str) -> None:
    """Let the quotas of a plan's subscribers follow its limits, which an operator has just changed."""
    services.apply_plan_limits(plan_id=UUID(plan_id))


@shared_task(name="quotas.tasks.apply_changed_limits")
def apply_changed_limits() -> None:
    """See to the plans whose task was lost."""
    for plan_id in Plan.objects.exclude(limits_changed_at=None).values_list("pk", flat=True):
        services.apply_plan_limits(plan_id=plan_id)


@shared_task(name="quotas.tasks.flush_exposures")
def flush_exposures() -> None:
    """Write down who has got which variant of a flag, before Redis forgets it."""
    exposures.flush()


@shared_task(name="quotas.tasks.dispatch_events")
def dispatch_events() -> None:
    """Pass on what has happened: to webhook endpoints, and to users by mail."""
    events.dispatch(mail=_enqueue_notice)


@shared_task(name="quotas.tasks.deliver_webhooks")
def deliver_webhooks() -> None:
    """Send the webhooks that are due."""
    deliveries.deliver_due()


@shared_task(name="quotas.tasks.send_quota_notice", **RETRIES)
def send_quota_notice(event_id: str) -> None:
    """Tell a user by mail how much of a quota is used."""
    notice = notices.notice_of(event_id=UUID(event_id))
    if notice is not None:
        mail.send(to=notice.to, template=notices.TEMPLATE, context=notice.context)


def _enqueue_notice(event: Event) -> None:
    if notices.is_mailed(event):
        enqueue(send_quota_notice, str(event.pk))


@shared_task(name="quotas.tasks.advance_subscriptions")
def advance_subscriptions() -> None:
    """End graces and trials, and do what was planned for the end of a period."""
    subscriptions.advance_due()


@shared_task(name="quotas.tasks.sync_stripe", **STRIPE_RETRIES)
def sync_stripe() -> None:
    """Write down how everything is at Stripe, in case that an event was lost."""
    if not stripe_api.is_configured():
        return
    for synced in stripe_catchup.sync_all():
        if synced.reason:
            log.warning("stripe_not_synced", customer=synced.customer_id, reason=synced.reason)


@shared_task(name="quotas.tasks.leave_stripe", **STRIPE_RETRIES)
def leave_stripe(customer_id: str) -> None:
    """End what an erased user pays for. Without keys there is nothing that could be ended."""
    if stripe_api.is_configured():
        stripe_catchup.leave(customer_id=customer_id)


@shared_task(name="quotas.tasks.close_checkouts", **STRIPE_RETRIES)
def close_checkouts(customer_id: str) -> None:
    """Close the pages on which a merged user could still buy, what the other one may have bought already."""
    if stripe_api.is_configured():
        stripe_api.close_pages(customer_id)
