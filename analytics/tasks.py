from celery import shared_task

from analytics import services
from prompts import usage


@shared_task(name="analytics.tasks.rollup_usage")
def rollup_usage() -> None:
    services.roll_up()
    usage.roll_up()
