"""The one place that speaks to Stripe: the official SDK, at one version of Stripe's API.

Nothing here touches the database. Every function raises `BillingNotConfigured` without a key, `StripeUnavailable` if
Stripe does not answer, and `StripeRefused` with Stripe's own sentence if it answers no.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

import stripe
import structlog
from django.conf import settings
from stripe.params import SubscriptionUpdateParams
from stripe.params.checkout import SessionCreateParamsSubscriptionData

from accounts.exceptions import InvalidInput
from quotas.exceptions import (
    BillingNotConfigured,
    CustomerUnknown,
    PaymentFailed,
    StripeRefused,
    StripeUnavailable,
)

log = structlog.get_logger(__name__)

# What Stripe answers depends on it: a new SDK or version is a change of this module and of the double together.
API_VERSION = "2026-10-28.endive"
SECONDS_TO_ANSWER = 10
# With the same idempotency key each, which the SDK makes.
RETRIES = 2
# Seconds that a signature of a webhook is good for.
TOLERANCE = 300
MOST_EVENT_BYTES = 1024 * 1024
MOST_LEVELS = 100
PAGE = 100
ALL_OF_IT = ["data.schedule"]

# It would tell Stripe about the machine, and how long calls take.
stripe.enable_telemetry = False


@dataclass(frozen=True, slots=True)
class CheckoutPage:
    """A page of Stripe's that sells a subscription."""

    id: str
    url: str


@dataclass(frozen=True, slots=True)
class StripeSubscription:
    """A subscription as Stripe has it now."""

    id: str
    customer_id: str
    status: str
    created_at: datetime
    price_id: str
    item_id: str
    anchored_at: datetime
    period_start: datetime
    period_end: datetime | None
    trial_end: datetime | None
    cancel_at: datetime | None
    cancel_at_period_end: bool
    canceled_at: datetime | None
    ended_at: datetime | None
    schedule_id: str = ""
    next_price_id: str = ""
    # Since when an invoice is open; only looked up for what is past due.
    unpaid_since: datetime | None = field(default=None, kw_only=True)


def is_configured() -> bool:
    return bool(settings.STRIPE_SECRET_KEY)


def create_customer(*, user_id: UUID, email: str, former: str = "") -> str:
    """The id of a new customer. Calls for the same user, address and former customer make one within a day."""
    key = hashlib.sha256(f"{user_id}:{email}:{former}".encode()).hexdigest()
    with _calling():
        made = _client().v1.customers.create(
            {"metadata": {"user_id": str(user_id)}, **({"email": email} if email else {})},
            {"idempotency_key": f"customer-{key}"},
        )
        return made.id


def create_checkout(
    *, customer_id: str, user_id: UUID, price_id: str, trial_days: int, success_url: str, cancel_url: str
) -> CheckoutPage:
    """A page that sells a subscription. `checkouts` sees to it that a customer has one at a time."""
    terms: SessionCreateParamsSubscriptionData = {"metadata": {"user_id": str(user_id)}}
    if trial_days:
        terms["trial_period_days"] = trial_days
    with _calling():
        made = _client().v1.checkout.sessions.create(
            {
                "mode": "subscription",
                "customer": customer_id,
                "client_reference_id": str(user_id),
                "line_items": [{"price": price_id, "quantity": 1}],
                "subscription_data": terms,
                "success_url": success_url,
                "cancel_url": cancel_url,
            }
        )
        return CheckoutPage(made.id, made.url or "")


def close_pages(customer_id: str) -> None:
    """Close all pages on which a customer could buy. `StripeRefused` if one cannot be, because it is being paid."""
    try:
        pages = _open_pages(customer_id)
        for page_id in pages:
            close_page(page_id)
        if pages and _open_pages(customer_id):
            raise StripeRefused("A payment is under way.")
    except CustomerUnknown:
        if not _was_deleted(customer_id):
            raise


def close_page(page_id: str) -> None:
    """Close a page. One that was paid or has run out meanwhile is left alone."""
    with _calling():
        try:
            _client().v1.checkout.sessions.expire(page_id)
        except stripe.InvalidRequestError as error:
            log.info("page_not_closed", page=page_id, request_id=error.request_id)


def create_portal(*, customer_id: str, return_url: str) -> str:
    """The address of the page on which a customer manages cards, invoices and the subscription."""
    with _calling():
        made = _client().v1.billing_portal.sessions.create({"customer": customer_id, "return_url": return_url})
        return made.url


def subscriptions_of(customer_id: str) -> list[StripeSubscription]:
    """All that a customer has had, and nothing for one who was deleted; `CustomerUnknown` if there never was one."""
    try:
        with _calling():
            found = _client().v1.subscriptions.list(
                {"customer": customer_id, "status": "all", "limit": PAGE, "expand": ALL_OF_IT}
            )
            return [_subscription(row) for row in found.auto_paging_iter()]
    except CustomerUnknown:
        if _was_deleted(customer_id):
            return []
        raise


def all_subscriptions() -> Iterator[StripeSubscription]:
    """Those of all customers, ended ones too. Raises in the middle if Stripe stops answering."""
    with _calling():
        found = _client().v1.subscriptions.list({"status": "all", "limit": PAGE, "expand": ALL_OF_IT})
        for row in found.auto_paging_iter():
            yield _subscription(row)


def change_price(subscription: StripeSubscription, price_id: str) -> None:
    """Sell another price from now on, how the rest of the period is settled being left to Stripe.

    A change or an end that was planned is called off.
    """
    drop_schedule(subscription)
    changes: SubscriptionUpdateParams = {"items": [{"id": subscription.item_id, "price": price_id}]}
    _update(subscription, _without_end(subscription, changes))


def schedule_price(subscription: StripeSubscription, price_id: str) -> None:
    """Sell another price from the end of the period on. A change or an end that was planned before is called off."""
    drop_schedule(subscription)
    if subscription.cancel_at is not None or subscription.cancel_at_period_end:
        resume(subscription)
    with _calling():
        schedules = _client().v1.subscription_schedules
        schedule = schedules.create({"from_subscription": subscription.id})
        running = schedule.phases[0]
        schedules.update(
            schedule.id,
            {
                "end_behavior": "release",
                "proration_behavior": "none",
                "phases": [
                    {
                        "items": [{"price": subscription.price_id, "quantity": 1}],
                        "start_date": running.start_date,
                        "end_date": running.end_date,
                    },
                    # However long: afterwards the subscription goes on as it is then.
                    {"items": [{"price": price_id, "quantity": 1}], "duration": {"interval": "month"}},
                ],
            },
        )


def drop_schedule(subscription: StripeSubscription) -> None:
    """Call off a change that was planned for the end of the period, if there is one."""
    if subscription.schedule_id:
        with _calling():
            _client().v1.subscription_schedules.release(subscription.schedule_id)


def cancel_at_period_end(subscription: StripeSubscription) -> None:
    drop_schedule(subscription)
    _update(subscription, {"cancel_at_period_end": True})


def resume(subscription: StripeSubscription) -> None:
    """Call off the end of a subscription, if there is one planned."""
    if changes := _without_end(subscription, {}):
        _update(subscription, changes)


def cancel_now(subscription_id: str) -> bool:
    """End a subscription at once. False if there was none to end: it has ended already, or Stripe never had it."""
    with _calling():
        try:
            _client().v1.subscriptions.cancel(subscription_id)
        except stripe.InvalidRequestError as error:
            if error.code != "resource_missing":
                raise
            return False
        return True


def verified_event(payload: bytes, signature: str) -> dict[str, Any]:
    """The event that Stripe has signed; `InvalidInput` if it is forged, older than TOLERANCE, too large or none."""
    secrets = settings.STRIPE_WEBHOOK_SECRETS
    if not secrets or not is_configured():
        raise BillingNotConfigured
    if len(payload) > MOST_EVENT_BYTES:
        raise InvalidInput(f"An event has at most {MOST_EVENT_BYTES} bytes.", code="event_too_large")
    if not any(_is_signed(payload, signature, secret) for secret in secrets):
        message = f"The event is not signed with our secret, or was signed more than {TOLERANCE} seconds ago."
        raise InvalidInput(message, code="invalid_signature")
    try:
        event = json.loads(payload, parse_constant=_no_constant)
        is_storable = _is_storable(event)
    except (ValueError, RecursionError):
        raise InvalidInput("This is no JSON.", code="invalid_event") from None
    # PostgreSQL's texts cannot hold NUL.
    if b"\\u0000" in payload or not is_storable or not _is_event(event):
        raise InvalidInput("This is no event of Stripe's.", code="invalid_event")
    return dict(event)


def _is_signed(payload: bytes, signature: str, secret: str) -> bool:
    try:
        return bool(stripe.WebhookSignature.verify_header(payload, signature, secret, TOLERANCE))
    except (stripe.SignatureVerificationError, UnicodeDecodeError):
        return False


def _is_storable(event: Any) -> bool:
    """Whether it is nested only so far; `ValueError` if PostgreSQL cannot hold a text or a number in it."""
    level = [event]
    for _ in range(MOST_LEVELS):
        level = [inner for thing in level for inner in _inside(thing)]
        if not level:
            json.dumps(event, ensure_ascii=False, allow_nan=False).encode()
            return True
    return False


def _inside(thing: Any) -> Collection[Any]:
    return thing.values() if isinstance(thing, dict) else thing if isinstance(thing, list) else ()


def _is_event(event: Any) -> bool:
    if not isinstance(event, dict) or event.get("object") != "event" or not isinstance(event.get("data"), dict):
        return False
    texts = [event.get("id"), event.get("type")]
    named = all(isinstance(text, str) and 0 < len(text) <= 255 for text in texts)
    dated = isinstance(event.get("created"), int) and 0 <= event["created"] < 2**33
    return named and dated and isinstance(event["data"].get("object"), dict)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _open_pages(customer_id: str) -> list[str]:
    with _calling():
        found = _client().v1.checkout.sessions.list({"customer": customer_id, "status": "open", "limit": PAGE})
        return [page.id for page in found.auto_paging_iter()]


def _was_deleted(customer_id: str) -> bool:
    try:
        with _calling():
            return bool(getattr(_client().v1.customers.retrieve(customer_id), "deleted", False))
    except StripeRefused:
        return False


def _update(subscription: StripeSubscription, changes: SubscriptionUpdateParams) -> None:
    with _calling():
        _client().v1.subscriptions.update(subscription.id, changes)


def _without_end(subscription: StripeSubscription, changes: SubscriptionUpdateParams) -> SubscriptionUpdateParams:
    # Of a subscription that ends with its period, Stripe names the day too, and takes only one of the two back.
    if subscription.cancel_at_period_end:
        changes["cancel_at_period_end"] = False
    elif subscription.cancel_at is not None:
        changes["cancel_at"] = ""
    return changes


def _subscription(row: stripe.Subscription) -> StripeSubscription:
    item = row.items.data[0]
    start, end = _time(item.current_period_start), _time(item.current_period_end)
    return StripeSubscription(
        id=row.id,
        customer_id=_id(row.customer),
        status=row.status,
        created_at=_time(row.created),
        price_id=item.price.id,
        item_id=item.id,
        anchored_at=_time(row.billing_cycle_anchor),
        period_start=start,
        period_end=end if end > start else None,
        trial_end=_time_or_none(row.trial_end),
        cancel_at=_time_or_none(row.cancel_at),
        cancel_at_period_end=row.cancel_at_period_end,
        canceled_at=_time_or_none(row.canceled_at),
        ended_at=_time_or_none(row.ended_at),
        schedule_id=_id(row.schedule),
        next_price_id=_next_price(row.schedule, end),
        unpaid_since=_unpaid_since(row.id) if row.status == "past_due" else None,
    )


def _next_price(schedule: stripe.SubscriptionSchedule | str | None, period_end: datetime) -> str:
    if not isinstance(schedule, stripe.SubscriptionSchedule):
        return ""
    later = [phase for phase in schedule.phases if _time(phase.start_date) >= period_end]
    return _id(later[0].items[0].price) if later else ""


def _unpaid_since(subscription_id: str) -> datetime | None:
    """When the oldest invoice was made that is still open."""
    invoices = _client().v1.invoices.list({"subscription": subscription_id, "status": "open", "limit": PAGE})
    return min((_time(invoice.created) for invoice in invoices.data), default=None)


def _id(thing: Any) -> str:
    """The id of what Stripe gives as an id, as the whole object, or not at all."""
    return thing if isinstance(thing, str) else thing.id if thing else ""


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _time_or_none(seconds: int | None) -> datetime | None:
    return None if seconds is None else _time(seconds)


@lru_cache(maxsize=2)
def _client_for(key: str, base: str) -> stripe.StripeClient:
    return stripe.StripeClient(
        key,
        stripe_version=API_VERSION,
        base_addresses={"api": base},
        max_network_retries=RETRIES,
        http_client=stripe.RequestsClient(timeout=SECONDS_TO_ANSWER),
    )


def _client() -> stripe.StripeClient:
    if not is_configured():
        raise BillingNotConfigured
    return _client_for(settings.STRIPE_SECRET_KEY, settings.STRIPE_API_BASE)


@contextmanager
def _calling() -> Iterator[None]:
    """Turn the SDK's errors into ours."""
    try:
        yield
    except stripe.CardError as error:
        raise PaymentFailed(error.user_message) from error
    except stripe.InvalidRequestError as error:
        if error.code == "resource_missing" and error.param == "customer":
            raise CustomerUnknown(error.user_message) from error
        log.warning("stripe_refused", code=error.code, param=error.param, request_id=error.request_id)
        raise StripeRefused(error.user_message) from error
    except (stripe.AuthenticationError, stripe.PermissionError) as error:
        log.error("stripe_key_refused", request_id=error.request_id)
        raise StripeUnavailable("Stripe does not take the key of this installation.") from error
    except stripe.StripeError as error:
        log.error("stripe_unavailable", error=type(error).__name__, request_id=error.request_id)
        raise StripeUnavailable from error
