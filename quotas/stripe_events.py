"""Webhook events of Stripe's: kept, and each applied once.

An event is a hint that a customer has changed. What it says may be old, so the customer is read anew, and that is what
is written down, in the transaction that marks the event as applied.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from accounts import audit
from accounts.caller import Caller
from accounts.models import User
from quotas import stripe_catchup, stripe_sync
from quotas.exceptions import StripeRefused, StripeUnavailable
from quotas.models import StripeEvent
from quotas.stripe_sync import CustomerState

Status = StripeEvent.Status

# Families of types that tell of a change which matters here. Others are kept and ignored.
HEARD = ("customer.subscription.", "customer.deleted", "subscription_schedule.", "checkout.session.", "invoice.")


def receive(event: dict[str, Any]) -> StripeEvent:
    """Keep an event that `stripe_api.verified_event` has read, and apply it unless that was done before.

    `StripeUnavailable` if Stripe cannot be asked: the event is kept as failed, and Stripe shall send it again.
    """
    kept = _received(event)
    if kept.status == Status.APPLIED:
        stripe_catchup.look_elsewhere(kept.customer_id)
    return kept


def replay(*, event: StripeEvent, by: Caller | User) -> None:
    """Apply a stored event once more, whatever became of it before; `StripeUnavailable` if Stripe cannot be asked."""
    audit.record("billing.event_replayed", by=by, target=event, type=event.type, former=event.status)
    # The address may have been blanked, when its owner was erased; the customer's id stays.
    reason = "" if event.customer_id and event.type.startswith(HEARD) else event.reason
    _apply(event, None if reason else _read(event), reason, again=True)
    stripe_catchup.look_elsewhere(event.customer_id)


def _received(event: dict[str, Any]) -> StripeEvent:
    known = StripeEvent.objects.filter(stripe_id=event["id"]).first()
    if known is not None and known.status != Status.FAILED:
        return known
    customer_id = _customer_of(event)
    reason = _why_ignored(event, customer_id)
    row = StripeEvent(
        stripe_id=event["id"],
        type=event["type"],
        api_version=str(event.get("api_version") or "")[:50],
        customer_id=customer_id,
        # Nothing more about somebody who has asked to be forgotten.
        payload={} if reason == stripe_sync.ERASED else event,
        created_at=datetime.fromtimestamp(event["created"], UTC),
        status=Status.FAILED,
        reason="It was not applied yet.",
        attempts=0,
    )
    return _apply(row, None if reason else _read(row), reason)


def _customer_of(event: dict[str, Any]) -> str:
    """The id of the customer whom an event is about; empty if it is about none."""
    thing = event["data"]["object"]
    found = thing.get("id") if thing.get("object") == "customer" else thing.get("customer")
    if isinstance(found, dict):
        found = found.get("id")
    return found[:255] if isinstance(found, str) else ""


def _why_ignored(event: dict[str, Any], customer_id: str) -> str:
    if customer_id and stripe_sync.is_erased(customer_id):
        return stripe_sync.ERASED
    if not event["type"].startswith(HEARD):
        return "Events of this type change nothing here."
    if not customer_id:
        return "It names no customer."
    if stripe_sync.owner_of(customer_id) is None:
        return "No user pays as this customer."
    return ""


def _read(row: StripeEvent) -> CustomerState:
    """The state of the event's customer; if it cannot be had, the event is kept as failed before this raises."""
    try:
        return stripe_sync.read_customer(row.customer_id)
    except (StripeUnavailable, StripeRefused) as error:
        with transaction.atomic():
            kept = _keep(row)
            if kept.status == Status.FAILED:
                kept.reason, kept.attempts = str(error), kept.attempts + 1
                kept.save(update_fields=["reason", "attempts"])
        raise StripeUnavailable(str(error)) from error


def _apply(row: StripeEvent, state: CustomerState | None, reason: str, *, again: bool = False) -> StripeEvent:
    with transaction.atomic():
        kept = _keep(row)
        if kept.status != Status.FAILED and not again:
            # Somebody else was faster.
            return kept
        reason = stripe_sync.apply(state) if state else reason
        kept.status, kept.reason = (Status.IGNORED, reason) if reason else (Status.APPLIED, "")
        kept.applied_at = None if reason else timezone.now()
        kept.attempts += 1
        kept.save(update_fields=["status", "reason", "applied_at", "attempts"])
    return kept


def _keep(row: StripeEvent) -> StripeEvent:
    """The event as it is stored, now if it was not before, locked."""
    StripeEvent.objects.bulk_create([row], ignore_conflicts=True)
    return StripeEvent.objects.select_for_update().get(stripe_id=row.stripe_id)
