from uuid import UUID

from celery import shared_task

from quotas import exposures, services
from quotas.models import Plan


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
