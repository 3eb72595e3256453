"""What operators do with webhooks: their secrets, a test, and sending again what was given up."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
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
    """Have an event sent to this endpoint alone that says nothing."""
    with transaction.atomic():
        event = Event.objects.create(
            type=Event.Type.TEST, payload={"endpoint_id": str(endpoint.pk)}, dispatched_at=timezone.now()
        )
        WebhookDelivery.objects.create(endpoint=endpoint, event=event)
        audit.record("webhook_endpoint.tested", by=by, target=endpoint)


def replay(*, delivery_id: UUID, by: Caller | User) -> None:
    """Send a delivery again that is delivered or dead, under the same id; `Conflict` if it is on its way."""
    with transaction.atomic():
        ended = WebhookDelivery.objects.exclude(status=WebhookDelivery.Status.PENDING).filter(pk=delivery_id)
        if not ended.update(**_anew()):
            raise Conflict("This delivery is on its way already.", code="delivery_pending")
        audit.record("webhook_delivery.replayed", by=by, target=WebhookDelivery(pk=delivery_id))


def replay_dead(*, endpoint: WebhookEndpoint, by: Caller | User) -> int:
    """Send again all that was given up for this endpoint; how many deliveries that are."""
    with transaction.atomic():
        count = endpoint.deliveries.dead().update(**_anew())
        audit.record("webhook_endpoint.dead_replayed", by=by, target=endpoint, deliveries=count)
    return count


def _anew() -> dict[str, Any]:
    return {
        "status": WebhookDelivery.Status.PENDING,
        "attempts": 0,
        "next_attempt_at": timezone.now(),
        "delivered_at": None,
    }
