from uuid import UUID

from celery import shared_task

from accounts import mail
from accounts.tasks import RETRIES, enqueue
from quotas import deliveries, events, exposures, notices, services
from quotas.models import Event, Plan


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
