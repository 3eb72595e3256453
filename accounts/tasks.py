from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import structlog
from celery import Task, shared_task
from django.conf import settings
from django.db import connection, transaction
from kombu.exceptions import OperationalError
from redis import RedisError

from accounts import codes, mail, recovery

log = structlog.get_logger(__name__)

# A mail server that does not answer is tried again after about 30, 60, 120 and 240 seconds.
RETRIES: dict[str, Any] = {"autoretry_for": (mail.MailNotSent,), "max_retries": 4, "retry_backoff": 30}
# What workers and their tools show of the arguments, which may be an address.
UNSEEN: dict[str, Any] = {"argsrepr": "(…)"}
SPARE_THREADS = 2


@shared_task(name="accounts.tasks.send_verification_mail", **RETRIES)
def send_verification_mail(user_id: str) -> None:
    _send(recovery.verification_link(user_id=UUID(user_id)), "verify_email", settings.VERIFY_EMAIL_URL)


@shared_task(name="accounts.tasks.send_verification_mail_to", **RETRIES)
def send_verification_mail_to(email: str) -> None:
    _send(recovery.verification_link_for(email=email), "verify_email", settings.VERIFY_EMAIL_URL)


@shared_task(name="accounts.tasks.send_password_reset", **RETRIES)
def send_password_reset(email: str) -> None:
    _send(recovery.reset_link(email=email), "reset_password", settings.PASSWORD_RESET_URL)


@shared_task(name="accounts.tasks.send_notice", **RETRIES)
def send_notice(template: str, email: str) -> None:
    """Tell the owner of an address what was done to their account: `address_changed` or `password_changed`."""
    mail.send(to=email, template=template, context={"site": urlsplit(settings.PUBLIC_URL).netloc})


def enqueue(task: Task[..., None], *args: str) -> None:
    """Have a task done by a worker once the running transaction commits; in this process if the broker is away."""
    transaction.on_commit(partial(_hand_over, task, args))


def _send(link: recovery.Link | None, template: str, address: str) -> None:
    if link is None:
        return
    url = mail.link(address, link.token)
    hours = round(link.lifetime.total_seconds() / 3600)
    try:
        mail.send(to=link.email, template=template, context={"url": url, "site": urlsplit(url).netloc, "hours": hours})
    except mail.MailNotSent:
        codes.withdraw(token=link.token, purpose=link.purpose)
        raise


def _hand_over(task: Task[..., None], args: tuple[str, ...]) -> None:
    try:
        task.apply_async(args, retry=False, **UNSEEN)
    except (OperationalError, RedisError, OSError) as error:
        log.warning("broker_unavailable", task=task.name, reason=type(error).__name__)
        _spare_threads().submit(_do_here, task, args)


@lru_cache(maxsize=1)
def _spare_threads() -> ThreadPoolExecutor:
    """Beside the request: how long its answer takes shall not tell whether an address is known."""
    return ThreadPoolExecutor(SPARE_THREADS, thread_name_prefix="without-broker")


def _do_here(task: Task[..., None], args: tuple[str, ...]) -> None:
    try:
        if task.apply(args).failed():
            log.error("task_failed_without_broker", task=task.name)
    finally:
        connection.close()
