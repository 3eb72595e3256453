from __future__ import annotations

import structlog
from celery import shared_task

from conversations import partitions

log = structlog.get_logger(__name__)


@shared_task(name="conversations.tasks.manage_partitions")
def manage_partitions() -> None:
    done = partitions.manage()
    if not done.is_nothing:
        log.info("partitions_managed", made=done.made, moved=done.moved, dropped=done.dropped)
