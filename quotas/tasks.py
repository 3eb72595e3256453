from typing import Any

import structlog
from celery import shared_task

from quotas import exposures, services, stripe_api, stripe_catchup, subscriptions
from quotas.exceptions import StripeUnavailable

log = structlog.get_logger(__name__)

# A Stripe that does not answer is asked again after about 30 seconds, then ever later, for half a day.
RETRIES: dict[str, Any] = {
    "autoretry_for": (StripeUnavailable,),
    "max_retries": 12,
    "retry_backoff": 30,
    "retry_backoff_max": 7200,
}


@shared_task(name="quotas.tasks.reset_quotas")
def reset_quotas() -> None:
    """Begin new periods for users who do not call, so that what they are shown is true; callers reset lazily."""
    services.reset_due()


@shared_task(name="quotas.tasks.flush_exposures")
def flush_exposures() -> None:
    """Write down who has got which variant of a flag, before Redis forgets it."""
    exposures.flush()


@shared_task(name="quotas.tasks.advance_subscriptions")
def advance_subscriptions() -> None:
    """End graces and trials, and do what was planned for the end of a period."""
    subscriptions.advance_due()


@shared_task(name="quotas.tasks.sync_stripe", **RETRIES)
def sync_stripe() -> None:
    """Write down how everything is at Stripe, in case that an event was lost."""
    if not stripe_api.is_configured():
        return
    for synced in stripe_catchup.sync_all():
        if synced.reason:
            log.warning("stripe_not_synced", customer=synced.customer_id, reason=synced.reason)


@shared_task(name="quotas.tasks.leave_stripe", **RETRIES)
def leave_stripe(customer_id: str) -> None:
    """End what an erased user pays for. Without keys there is nothing that could be ended."""
    if stripe_api.is_configured():
        stripe_catchup.leave(customer_id=customer_id)
