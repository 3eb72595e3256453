from celery import shared_task

from inference import services
from quotas import services as quotas


@shared_task(name="inference.tasks.sweep_reservations")
def sweep_reservations() -> None:
    """End what lost processes left behind: first the calls, which know what to charge, then all other holds."""
    services.sweep_abandoned()
    quotas.sweep_expired()
