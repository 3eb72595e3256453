"""What operators do with webhooks: their secrets, a test, and sending again or at once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from accounts import audit
from accounts.caller import Caller
from accounts.exceptions import Conflict, NotFound
from accounts.models import User
from quotas.models import Event, WebhookDelivery, WebhookEndpoint
from quotas.models.webhooks import new_secret

# How long the secret before signs too, so that receivers can change over without missing anything.
OVERLAP = timedelta(hours=24)


def rotate_secret(*, endpoint_id: UUID, by: Caller | User) -> str:
    """Give an endpoint another secret, and answer it; the former one signs too for a day. `NotFound`."""
    with transaction.atomic():
        endpoint = WebhookEndpoint.objects.select_for_update(no_key=True).filter(pk=endpoint_id).first()
        if endpoint is None:
            raise NotFound("No such webhook endpoint.")
        secret = new_secret()
        endpoint.previous_secret, endpoint.secret = endpoint.secret, secret
        endpoint.previous_expires_at = timezone.now() + OVERLAP
        endpoint.save(update_fields=["secret", "previous_secret", "previous_expires_at", "updated_at"])
        audit.record("webhook_endpoint.secret_rotated", by=by, target=endpoint)
    return secret


def send_test(*, endpoint: WebhookEndpoint, by: Caller | User) -> None:
    """Have an event sent to this endpoint alone that says nothing; `Conflict` if it is switched off."""
    with transaction.atomic():
        _check_on(WebhookEndpoint.objects.filter(pk=endpoint.pk))
        event = Event.objects.create(
            type=Event.Type.TEST, payload={"endpoint_id": str(endpoint.pk)}, dispatched_at=timezone.now()
        )
        WebhookDelivery.objects.create(endpoint=endpoint, event=event)
        audit.record("webhook_endpoint.tested", by=by, target=endpoint)


def replay(*, delivery_id: UUID, by: Caller | User) -> None:
    """Send a delivery again that is delivered or dead, or at once what waits for another attempt, under the same id.

    `Conflict` if it is due anyway, or its endpoint is switched off. The attempts of what waits count on; one that is
    running just then decides when the next one is.
    """
    now, one = timezone.now(), WebhookDelivery.objects.filter(pk=delivery_id)
    with transaction.atomic():
        _check_on(WebhookEndpoint.objects.filter(deliveries=delivery_id))
        if one.exclude(status=WebhookDelivery.Status.PENDING).update(**_anew()):
            action = "webhook_delivery.replayed"
        elif one.filter(status=WebhookDelivery.Status.PENDING, next_attempt_at__gt=now).update(next_attempt_at=now):
            action = "webhook_delivery.hurried"
        else:
            raise Conflict("This delivery is due already, and goes out within seconds.", code="delivery_pending")
        audit.record(action, by=by, target=WebhookDelivery(pk=delivery_id))


def replay_dead(*, endpoint: WebhookEndpoint, by: Caller | User) -> int:
    """Send again all that was given up for this endpoint; how many deliveries that are."""
    with transaction.atomic():
        count = endpoint.deliveries.dead().update(**_anew())
        audit.record("webhook_endpoint.dead_replayed", by=by, target=endpoint, deliveries=count)
    return count


def _check_on(endpoints: QuerySet[WebhookEndpoint]) -> None:
    """Refuse to promise what an endpoint that is switched off would not get; none is switched off meanwhile."""
    if not endpoints.filter(is_active=True).select_for_update(no_key=True, of=("self",)):
        raise Conflict("This endpoint is switched off: nothing is sent to it. Switch it on first.", code="endpoint_off")


def _anew() -> dict[str, Any]:
    return {
        "status": WebhookDelivery.Status.PENDING,
        "attempts": 0,
        "next_attempt_at": timezone.now(),
        "delivered_at": None,
    }
