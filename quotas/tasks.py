from celery import shared_task

from quotas import exposures, services


@shared_task(name="quotas.tasks.reset_quotas")
def reset_quotas() -> None:
    """Begin new periods for users who do not call, so that what they are shown is true; callers reset lazily."""
    services.reset_due()


@shared_task(name="quotas.tasks.flush_exposures")
def flush_exposures() -> None:
    """Write down who has got which variant of a flag, before Redis forgets it."""
    exposures.flush()
