from celery import shared_task

from config.cleanup import clean_up


@shared_task(name="config.tasks.cleanup")
def cleanup() -> None:
    clean_up()
