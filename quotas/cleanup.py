"""What is over in quotas, and what becomes of it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Exists, OuterRef, Q, QuerySet

from accounts.cleanup import Chore, delete
from quotas.models import Event, IdempotencyRecord, WebhookDelivery, WebhookEndpoint


def _kept_since(now: datetime) -> datetime:
    return now - timedelta(days=settings.EVENT_DAYS)


def _old_deliveries(now: datetime) -> QuerySet[WebhookDelivery]:
    return WebhookDelivery.objects.filter(status=WebhookDelivery.Status.DELIVERED, delivered_at__lte=_kept_since(now))


def _old_events(now: datetime) -> QuerySet[Event]:
    """Not those of a running period, which say that nobody is to be told again, nor those still on their way."""
    of_running_period = Q(quota_id__isnull=False) & (Q(reset_date=None) | Q(reset_date__gt=now))
    on_its_way = WebhookDelivery.objects.filter(event=OuterRef("pk"), status=WebhookDelivery.Status.PENDING)
    old = Event.objects.filter(dispatched_at__lte=_kept_since(now))
    return old.exclude(of_running_period).exclude(Exists(on_its_way))


def _outlived_secrets(now: datetime) -> QuerySet[WebhookEndpoint]:
    return WebhookEndpoint.objects.filter(previous_expires_at__lte=now)


def _blank_previous(endpoints: QuerySet[Any]) -> int:
    return endpoints.update(previous_secret="", previous_expires_at=None)


def _expired_answers(now: datetime) -> QuerySet[IdempotencyRecord]:
    return IdempotencyRecord.objects.filter(expires_at__lte=now)


CHORES = (
    Chore("answers forgotten whose idempotency key has expired", _expired_answers, delete),
    Chore("webhooks deleted that were delivered EVENT_DAYS ago", _old_deliveries, delete),
    Chore("events deleted that were passed on EVENT_DAYS ago", _old_events, delete),
    Chore("former secrets of webhooks forgotten after their overlap", _outlived_secrets, _blank_previous),
)
