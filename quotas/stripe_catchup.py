"""Making good for events that were lost: everything at Stripe, written down as it is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

import structlog

from quotas import stripe_api
from quotas.exceptions import StripeRefused
from quotas.models import Subscription
from quotas.stripe_api import StripeSubscription
from quotas.stripe_sync import (
    CustomerState,
    apply,
    customers_of,
    database_clock,
    is_erased,
    owner_of,
    read_customer,
)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Synced:
    """What became of one customer of ours; `reason` says why nothing was written."""

    customer_id: str
    reason: str


def sync_all() -> Iterator[Synced]:
    """Read all subscriptions of the account, and apply those of customers who are users here.

    Whom the key's account does not know is left as it is: it may be the wrong key. `StripeUnavailable` if Stripe stops
    answering; what is done by then stays done.
    """
    states = _read_all()
    for state in _ended_first(states):
        if owner_of(state.customer_id) is not None:
            yield _synced(state)
    known = {state.customer_id for state in states}
    sold = Subscription.objects.live().exclude(stripe_customer_id="").order_by("id")
    for customer_id in [found for found in sold.values_list("stripe_customer_id", flat=True) if found not in known]:
        yield sync_customer(customer_id)


def sync_customer(customer_id: str) -> Synced:
    """Read and apply one customer."""
    try:
        return _synced(read_customer(customer_id))
    except StripeRefused as refusal:
        return Synced(customer_id, str(refusal))


def sync_user(user_id: UUID) -> Iterator[Synced]:
    """Read and apply all customers as whom a user pays."""
    states = []
    for customer_id in customers_of(user_id):
        try:
            states.append(read_customer(customer_id))
        except StripeRefused as refusal:
            yield Synced(customer_id, str(refusal))
    yield from map(_synced, _ended_first(states))


def leave(*, customer_id: str) -> None:
    """End at once all that a customer pays for, or still could: the user was erased.

    What Stripe keeps for the books stays there.
    """
    stripe_api.close_pages(customer_id)
    for one in read_customer(customer_id).live:
        stripe_api.cancel_now(one.id)


def look_elsewhere(customer_id: str) -> None:
    """Of a user who has nothing bought any more, apply the other customers: one of a merged user may pay.

    `StripeUnavailable` if Stripe cannot be asked.
    """
    user_id = owner_of(customer_id)
    if user_id is None or Subscription.objects.live().filter(user=user_id).exclude(stripe_customer_id="").exists():
        return
    for other in customers_of(user_id):
        if other != customer_id:
            try:
                apply(read_customer(other))
            except StripeRefused as refusal:
                log.warning("stripe_not_synced", customer=other, reason=str(refusal))


def _read_all() -> list[CustomerState]:
    asked_at = database_clock()
    by_customer: dict[str, list[StripeSubscription]] = defaultdict(list)
    for one in stripe_api.all_subscriptions():
        by_customer[one.customer_id].append(one)
    return [CustomerState(customer_id, asked_at, found) for customer_id, found in by_customer.items()]


def _ended_first(states: list[CustomerState]) -> list[CustomerState]:
    """One that is over makes place for another of the same user."""
    return sorted(states, key=lambda state: bool(state.live))


def _synced(state: CustomerState) -> Synced:
    reason = apply(state)
    if not is_erased(state.customer_id):
        look_elsewhere(state.customer_id)
    elif state.live:
        leave(customer_id=state.customer_id)
        reason = ""
    return Synced(state.customer_id, reason)
