"""Events: writing them down, and passing them on to whoever is to be told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from quotas.models import Event, WebhookDelivery, WebhookEndpoint

BATCH = 200


def emit(*, type: Event.Type, user_id: UUID | None, payload: dict[str, Any]) -> Event:
    """Write an event, in the caller's transaction: it happened if and only if that commits.

    `payload` goes to other systems and stays when the user is merged: no secret and nothing personal belongs into it.
    """
    return Event.objects.create(type=type, user_id=user_id, payload=payload)


def dispatch(*, mail: Callable[[Event], object]) -> int:
    """Pass on what nobody has been told of; how many events that were.

    Each gets a delivery for every active endpoint that wants it. `mail` is called with every event inside the
    transaction that marks it as dispatched, to send what is to be sent when that commits.
    """
    total = 0
    while done := _dispatch_batch(mail):
        total += done
    return total


def _dispatch_batch(mail: Callable[[Event], object]) -> int:
    with transaction.atomic():
        events = list(Event.objects.waiting().select_for_update(skip_locked=True)[:BATCH])
        endpoints = list(WebhookEndpoint.objects.filter(is_active=True)) if events else []
        WebhookDelivery.objects.bulk_create(
            WebhookDelivery(endpoint=endpoint, event=event)
            for event in events
            for endpoint in endpoints
            if endpoint.wants(event.type)
        )
        for event in events:
            mail(event)
        Event.objects.filter(pk__in=[event.pk for event in events]).update(dispatched_at=timezone.now())
    return len(events)
