"""Sending events to webhook endpoints, signed as the Standard Webhooks specification has it.

The specification: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from uuid import UUID

import aiohttp
import orjson
import structlog
from django.db import connection, transaction
from django.db.models import F
from django.utils import timezone

from accounts import audit
from quotas.models import Event, WebhookDelivery, WebhookEndpoint
from quotas.models.webhooks import SECRET_MARK
from quotas.receivers import open_socket

log = structlog.get_logger(__name__)

# After the first failed attempt, the second …; whoever fails once more is given up.
DELAYS = (
    *(timedelta(seconds=5), timedelta(seconds=30), timedelta(minutes=2), timedelta(minutes=10), timedelta(minutes=30)),
    *(timedelta(hours=2), timedelta(hours=6), timedelta(hours=12), timedelta(hours=24)),
)
# So much longer a delay may be by chance, that those who failed together do not come back together.
JITTER = 0.2
MOST_RETRY_AFTER = timedelta(hours=24)
# A whole attempt, from the look-up of the name to the status line, in seconds.
TIMEOUT = 10
# One endpoint is served for this many seconds, and its last attempt; then others may need the thread.
ROUND_SECONDS = 20
# Longer than that. Whoever holds one for so long has died.
LEASE = timedelta(seconds=60)
THREADS = 8


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of an attempt; `status` is None if nothing came back."""

    status: int | None
    error: str = ""
    retry_after: timedelta | None = None

    @property
    def is_success(self) -> bool:
        return self.status is not None and HTTPStatus(200) <= self.status < HTTPStatus(300)


def deliver_due() -> int:
    """Send what is due, to each endpoint from a thread of its own; how many attempts that took."""
    now = timezone.now()
    endpoints = list(WebhookEndpoint.objects.free(now).with_due(now).values_list("pk", flat=True))
    if not endpoints:
        return 0
    with ThreadPoolExecutor(min(THREADS, len(endpoints)), thread_name_prefix="webhooks") as threads:
        return sum(threads.map(_serve, endpoints))


def message(event: Event) -> bytes:
    """The body that tells of an event: the same at each attempt."""
    data = {"user_id": event.user_id, **event.payload}
    if data.get("current_period_end"):
        data["current_period_end"] = datetime.fromisoformat(data["current_period_end"]).astimezone(UTC)
    if event.type in {Event.Type.SOFT_LIMIT_REACHED, Event.Type.LIMIT_REACHED}:
        data["reset_date"] = event.reset_date
    whole = {"id": event.pk, "type": event.type, "created_at": event.created_at, "data": data}
    return orjson.dumps(whole, option=orjson.OPT_UTC_Z)


def signature(secret: str, *, message_id: str, timestamp: int, body: bytes) -> str:
    """The HMAC-SHA256 of a message under a secret, `v1,<base64>`."""
    key = base64.b64decode(secret.removeprefix(SECRET_MARK))
    signed = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256)
    return f"v1,{base64.b64encode(signed).decode()}"


def _serve(endpoint_id: UUID) -> int:
    """Send to one endpoint what is due for it, as long as nobody else does."""
    try:
        now = timezone.now()
        if not WebhookEndpoint.objects.free(now).filter(pk=endpoint_id).update(busy_until=now + LEASE):
            return 0
        try:
            return _send_due(endpoint_id)
        finally:
            WebhookEndpoint.objects.filter(pk=endpoint_id).update(busy_until=None)
    finally:
        connection.close()


def _send_due(endpoint_id: UUID) -> int:
    """One after the other, oldest first. Where nothing comes back, the rest has to wait for another round."""
    attempts, end = 0, time.monotonic() + ROUND_SECONDS
    while time.monotonic() < end and (delivery := _claim(endpoint_id)) is not None:
        answer = _attempt(delivery)
        _record(delivery, answer)
        attempts += 1
        if answer.status is None:
            break
    return attempts


def _claim(endpoint_id: UUID) -> WebhookDelivery | None:
    """The delivery that has been due for longest, with its attempt counted and its lease begun."""
    now = timezone.now()
    due = WebhookDelivery.objects.due(now).filter(endpoint_id=endpoint_id)
    delivery = (
        due.filter(endpoint__is_active=True)
        .select_related("endpoint", "event")
        .order_by("next_attempt_at", "id")
        .first()
    )
    if delivery is None:
        return None
    claimed = due.filter(pk=delivery.pk).update(
        attempts=F("attempts") + 1, last_attempt_at=now, next_attempt_at=now + LEASE
    )
    delivery.attempts += 1
    return delivery if claimed else None


def _attempt(delivery: WebhookDelivery) -> Answer:
    now = timezone.now()
    message_id, timestamp, body = str(delivery.event_id), int(now.timestamp()), message(delivery.event)
    signatures = [
        signature(secret, message_id=message_id, timestamp=timestamp, body=body)
        for secret in delivery.endpoint.secrets(now)
    ]
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "Mainstay",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signatures),
    }
    return asyncio.run(_post(delivery.endpoint.url, headers, body))


async def _post(url: str, headers: dict[str, str], body: bytes) -> Answer:
    """POST, and look at the status alone. Errors are named without their text, which may repeat what we have sent."""
    try:
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(socket_factory=open_socket),
                timeout=aiohttp.ClientTimeout(total=TIMEOUT),
            ) as session,
            session.post(url, data=body, headers=headers, allow_redirects=False) as response,
        ):
            status, later = response.status, response.headers.get("Retry-After")
    except TimeoutError:
        return Answer(None, f"No answer within {TIMEOUT} seconds.")
    except aiohttp.ClientConnectorError as error:
        return Answer(None, f"No connection: {error.os_error.strerror or type(error).__name__}."[:200])
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return Answer(None, f"The exchange failed ({type(error).__name__}).")
    answer = Answer(status, retry_after=_retry_after(later))
    return answer if answer.is_success else Answer(status, f"Answered {status}.", answer.retry_after)


def _retry_after(value: str | None) -> timedelta | None:
    """What the header of that name asks for, in seconds or as a date; None if it makes no sense."""
    if value is None:
        return None
    try:
        if value.isdecimal():
            return timedelta(seconds=int(value))
        return parsedate_to_datetime(value).astimezone(UTC) - timezone.now()
    except (ValueError, OverflowError):
        return None


def _record(delivery: WebhookDelivery, answer: Answer) -> None:
    """Write down what came of an attempt. A failure is of no account any more if its lease is over."""
    now = timezone.now()
    pending = WebhookDelivery.objects.filter(pk=delivery.pk, status=WebhookDelivery.Status.PENDING)
    if answer.is_success:
        pending.update(
            status=WebhookDelivery.Status.DELIVERED,
            delivered_at=now,
            last_status_code=answer.status,
            last_error="",
        )
        return
    with transaction.atomic():
        is_gone = answer.status == HTTPStatus.GONE
        if is_gone:
            _switch_off(delivery.endpoint)
        given_up = is_gone or delivery.attempts > len(DELAYS)
        pending.filter(attempts=delivery.attempts).update(
            status=WebhookDelivery.Status.DEAD if given_up else WebhookDelivery.Status.PENDING,
            next_attempt_at=now if given_up else now + _delay(delivery.attempts, answer.retry_after),
            last_status_code=answer.status,
            last_error=answer.error,
        )
    if given_up:
        log.warning("webhook_given_up", delivery=str(delivery.pk), status=answer.status)


def _switch_off(endpoint: WebhookEndpoint) -> None:
    reason = "Answered 410: it does not want events any more."
    active = WebhookEndpoint.objects.filter(pk=endpoint.pk, is_active=True)
    if active.update(is_active=False, disabled_reason=reason, updated_at=timezone.now()):
        audit.record("webhook_endpoint.disabled", by=None, target=endpoint, status_code=int(HTTPStatus.GONE))


def _delay(attempts: int, retry_after: timedelta | None) -> timedelta:
    """How long to wait after so many failed attempts; longer if the receiver asks for it, a day at most."""
    delay = DELAYS[attempts - 1] * random.uniform(1, 1 + JITTER)  # noqa: S311
    return max(delay, min(retry_after, MOST_RETRY_AFTER)) if retry_after else delay
