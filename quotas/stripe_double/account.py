"""What an account at Stripe holds, and what happens to it when people pay, banks refuse and time goes by."""

from __future__ import annotations

import itertools
import json
import secrets
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import stripe

Thing = dict[str, Any]

DAY = 86_400
MONTH = 30 * DAY
# When Stripe stops trying to get a payment, and how long a first one may take.
RETRYING = 21 * DAY
FIRST_PAYMENT = 23 * 3600
ENDED = ("canceled", "incomplete_expired")


class Refused(Exception):
    """An answer of 4xx in Stripe's shape."""

    def __init__(self, message: str, *, code: str = "", param: str = "", status: int = 400) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"type": "invalid_request_error", "message": message, "code": code, "param": param}


class Account:
    """`prices` are all monthly. `deliver` is called with each event; `events` keeps them in their order."""

    def __init__(self, *, version: str, secret: str) -> None:
        self.version, self.secret = version, secret
        self.now = int(time.time())
        self.prices: set[str] = set()
        self.bad_cards: set[str] = set()
        self.after_retries = "unpaid"
        self.events: list[Thing] = []
        self.deliver: Callable[[Thing], None] | None = None
        self.customers: dict[str, Thing] = {}
        self.sessions: dict[str, Thing] = {}
        self.subscriptions: dict[str, Thing] = {}
        self.schedules: dict[str, Thing] = {}
        self.invoices: dict[str, Thing] = {}
        # Ids are never those of a double that ran before: whoever talks to it may remember them. Later ones sort later.
        self._run = secrets.token_hex(4)
        self._numbers = itertools.count(1)

    # What people and banks do ----------------------------------------------------------------------------------------

    def pay(self, session_id: str) -> Thing:
        """Fill in the page of a checkout session; with a bad card the subscription waits for its first payment."""
        session = self.find(self.sessions, session_id, "checkout session")
        if session["status"] != "open":
            raise Refused(f"This page is {session['status']}.", code="checkout_session_not_open")
        terms = session.pop("_terms")
        subscription = self._begin(session["customer"], terms["price"], terms["trial_days"], terms["metadata"])
        session |= {"status": "complete", "payment_status": "paid", "subscription": subscription["id"]}
        self._tell("checkout.session.completed", session)
        return subscription

    def break_card(self, customer_id: str) -> None:
        self.bad_cards.add(customer_id)

    def mend_card(self, customer_id: str) -> None:
        """A card that works: all open invoices are paid."""
        self.bad_cards.discard(customer_id)
        for invoice in self._open_invoices(customer=customer_id):
            self._settle(invoice)

    def delete_customer(self, customer_id: str) -> None:
        for subscription in self._live(customer_id):
            self.end(subscription)
        self.customers[customer_id] = {"id": customer_id, "object": "customer", "deleted": True}
        self._tell("customer.deleted", self.customers[customer_id])

    def advance(self, *, days: float = 0, hours: float = 0) -> None:
        """Let time go by, and do in their order all things that it brings."""
        target = self.now + int(days * DAY + hours * 3600)
        while due := [
            (at, subscription) for subscription in self._live() if (at := self._next(subscription)) <= target
        ]:
            self.now, subscription = min(due, key=lambda found: found[0])
            self._happen(subscription)
        self.now = target

    # What is asked for -----------------------------------------------------------------------------------------------

    def create_customer(self, email: str = "", metadata: Thing | None = None) -> Thing:
        customer = self._new("cus", "customer", email=email or None, metadata=metadata or {})
        self.customers[customer["id"]] = customer
        self._tell("customer.created", customer)
        return customer

    def create_session(self, *, customer: str, price: str, trial_days: int, **fields: Any) -> Thing:
        self.known_customer(customer)
        self._check_price(price, "line_items[0][price]")
        metadata = fields.pop("metadata")
        session = self._new("cs", "checkout.session", customer=customer, status="open", subscription=None, **fields)
        session |= {"mode": "subscription", "payment_status": "unpaid"}
        session["_terms"] = {"price": price, "trial_days": trial_days, "metadata": metadata}
        self.sessions[session["id"]] = session
        return session

    def change(self, subscription: Thing, changes: Thing) -> Thing:
        """Update a subscription; `changes` as Stripe takes them, items as (item's id, price) under `item`."""
        if subscription["status"] in ENDED:
            raise Refused("A canceled subscription can only update its metadata.", code="subscription_canceled")
        if subscription["schedule"] and {"cancel_at", "cancel_at_period_end"} & changes.keys():
            raise Refused(
                f"The subscription is managed by the subscription schedule {subscription['schedule']}, and updating "
                "any cancelation behavior directly is not allowed."
            )
        if "item" in changes:
            item_id, price = changes["item"]
            self._check_price(price, "items[0][price]")
            item = subscription["items"]["data"][0]
            if item["id"] != item_id:
                raise Refused(f"No such subscription item: {item_id}", code="resource_missing", param="items[0][id]")
            item["price"] = _price(price)
        if "cancel_at_period_end" in changes:
            self._plan_end(subscription, at_end=changes["cancel_at_period_end"])
        if "cancel_at" in changes:
            subscription |= {"cancel_at": changes["cancel_at"], "canceled_at": changes["cancel_at"] and self.now}
        self._tell("customer.subscription.updated", subscription)
        return subscription

    def end(self, subscription: Thing, status: str = "canceled") -> Thing:
        if subscription["status"] in ENDED:
            raise Refused(f"No such subscription: {subscription['id']}", code="resource_missing", status=404)
        subscription |= {"status": status, "ended_at": self.now, "canceled_at": self.now, "schedule": None}
        deleted = status == "canceled"
        self._tell("customer.subscription.deleted" if deleted else "customer.subscription.updated", subscription)
        return subscription

    def create_schedule(self, subscription: Thing) -> Thing:
        if subscription["schedule"]:
            raise Refused("The subscription has a schedule already.", param="from_subscription")
        if subscription["cancel_at"]:
            raise Refused("The subscription is set to cancel.", param="from_subscription")
        item = subscription["items"]["data"][0]
        phase = {
            "start_date": item["current_period_start"],
            "end_date": item["current_period_end"],
            "items": [{"price": item["price"]["id"], "quantity": 1}],
        }
        schedule = self._new("sub_sched", "subscription_schedule", customer=subscription["customer"], phases=[phase])
        schedule |= {"subscription": subscription["id"], "status": "active", "end_behavior": "release"}
        self.schedules[schedule["id"]] = schedule
        subscription["schedule"] = schedule["id"]
        self._tell("subscription_schedule.created", schedule)
        return schedule

    def plan_phases(self, schedule: Thing, phases: list[Thing]) -> Thing:
        for number, phase in enumerate(phases):
            self._check_price(phase["items"][0]["price"], f"phases[{number}][items][0][price]")
        running = schedule["phases"][0]
        if phases[0]["start_date"] != running["start_date"]:
            raise Refused("The start of the current phase cannot be changed.", param="phases[0][start_date]")
        at = running["start_date"]
        for phase in phases:
            phase["start_date"] = at
            at = phase.setdefault("end_date", at + MONTH)
            phase.pop("duration", None)
        schedule["phases"] = phases
        self._tell("subscription_schedule.updated", schedule)
        return schedule

    def release(self, schedule: Thing) -> Thing:
        if schedule["status"] != "active":
            raise Refused(f"The schedule is {schedule['status']}.")
        subscription = self.subscriptions[schedule["subscription"]]
        schedule |= {"status": "released", "released_at": self.now, "subscription": None}
        subscription["schedule"] = None
        self._tell("subscription_schedule.released", schedule)
        self._tell("customer.subscription.updated", subscription)
        return schedule

    # Finding ---------------------------------------------------------------------------------------------------------

    def find(self, things: dict[str, Thing], id: str, what: str, param: str = "id") -> Thing:
        if id not in things:
            raise Refused(f"No such {what}: '{id}'", code="resource_missing", param=param, status=404)
        return things[id]

    def known_customer(self, id: str) -> Thing:
        """Deleted ones are unknown wherever they are only named."""
        customer = self.find(self.customers, id, "customer", "customer")
        if customer.get("deleted"):
            raise Refused(f"No such customer: '{id}'", code="resource_missing", param="customer")
        return customer

    def signed(self, event: Thing, *, at: int | None = None) -> tuple[bytes, str]:
        """The body of a webhook request, and its header Stripe-Signature."""
        payload = json.dumps(event)
        header = stripe.WebhookSignature.generate_signature_header(payload, self.secret, at)
        return payload.encode(), str(header)

    # What time brings ------------------------------------------------------------------------------------------------

    def _live(self, customer_id: str = "") -> list[Thing]:
        everybodys = [one for one in self.subscriptions.values() if one["status"] not in ENDED]
        return [one for one in everybodys if not customer_id or one["customer"] == customer_id]

    def _next(self, subscription: Thing) -> int:
        """When the next thing happens to a subscription by itself."""
        if subscription["status"] == "incomplete":
            return int(subscription["created"] + FIRST_PAYMENT)
        end = int(subscription["items"]["data"][0]["current_period_end"])
        if subscription["status"] == "past_due":
            return min(end, RETRYING + min(int(one["created"]) for one in self._open_invoices(subscription["id"])))
        return min(end, int(subscription["cancel_at"] or end))

    def _happen(self, subscription: Thing) -> None:
        if subscription["status"] == "incomplete":
            self.end(subscription, "incomplete_expired")
        elif subscription["cancel_at"] and subscription["cancel_at"] <= self.now:
            self.end(subscription)
        elif subscription["items"]["data"][0]["current_period_end"] <= self.now:
            self._renew(subscription)
        elif self.after_retries == "canceled":
            self.end(subscription)
        else:
            subscription["status"] = self.after_retries
            self._tell("customer.subscription.updated", subscription)

    def _renew(self, subscription: Thing) -> None:
        item = subscription["items"]["data"][0]
        if subscription["schedule"]:
            self._next_phase(subscription, self.schedules[subscription["schedule"]])
        item |= {"current_period_start": self.now, "current_period_end": self.now + MONTH}
        if subscription["status"] == "trialing":
            subscription["status"] = "active"
        self._bill(subscription)

    def _next_phase(self, subscription: Thing, schedule: Thing) -> None:
        schedule["phases"].pop(0)
        if schedule["phases"]:
            subscription["items"]["data"][0]["price"] = _price(schedule["phases"][0]["items"][0]["price"])
        else:
            self.release(schedule)

    def _begin(self, customer_id: str, price: str, trial_days: int, metadata: Thing) -> Thing:
        trial_end = self.now + trial_days * DAY if trial_days else None
        anchor = trial_end or self.now
        item = self._new("si", "subscription_item", price=_price(price), quantity=1)
        item |= {"current_period_start": self.now, "current_period_end": trial_end or self.now + MONTH}
        subscription = self._new("sub", "subscription", customer=customer_id, metadata=metadata, schedule=None)
        subscription |= {
            "status": "trialing" if trial_end else "incomplete",
            "items": {"object": "list", "data": [item], "has_more": False, "url": "/v1/subscription_items"},
            "billing_cycle_anchor": anchor,
            "trial_start": self.now if trial_end else None,
            "trial_end": trial_end,
            "cancel_at": None,
            "cancel_at_period_end": False,
            "canceled_at": None,
            "ended_at": None,
        }
        item["subscription"] = subscription["id"]
        self.subscriptions[subscription["id"]] = subscription
        self._tell("customer.subscription.created", subscription)
        if not trial_end:
            self._bill(subscription)
        return subscription

    def _bill(self, subscription: Thing) -> None:
        invoice = self._new("in", "invoice", customer=subscription["customer"], status="open")
        invoice["_subscription"] = subscription["id"]
        self.invoices[invoice["id"]] = invoice
        if subscription["customer"] not in self.bad_cards:
            self._settle(invoice)
            return
        if subscription["status"] == "active":
            subscription["status"] = "past_due"
        self._tell("invoice.payment_failed", invoice)
        self._tell("customer.subscription.updated", subscription)

    def _settle(self, invoice: Thing) -> None:
        invoice["status"] = "paid"
        subscription = self.subscriptions[invoice["_subscription"]]
        if subscription["status"] not in ENDED and not list(self._open_invoices(subscription["id"])):
            subscription["status"] = "active"
            self._tell("customer.subscription.updated", subscription)
        self._tell("invoice.paid", invoice)

    def _open_invoices(self, subscription_id: str = "", *, customer: str = "") -> Iterator[Thing]:
        for invoice in list(self.invoices.values()):
            if invoice["status"] == "open" and (
                invoice["_subscription"] == subscription_id or (customer and invoice["customer"] == customer)
            ):
                yield invoice

    def _plan_end(self, subscription: Thing, *, at_end: bool) -> None:
        end = subscription["items"]["data"][0]["current_period_end"] if at_end else None
        subscription |= {"cancel_at_period_end": at_end, "cancel_at": end, "canceled_at": end and self.now}

    def _check_price(self, price: str, param: str) -> None:
        if price not in self.prices:
            raise Refused(f"No such price: '{price}'", code="resource_missing", param=param)

    def _new(self, prefix: str, kind: str, **fields: Any) -> Thing:
        named = f"{prefix}_{self._run}{next(self._numbers):06}"
        return {"id": named, "object": kind, "created": self.now, "livemode": False, **fields}

    def _tell(self, type: str, thing: Thing) -> None:
        event = self._new("evt", "event", type=type, api_version=self.version, pending_webhooks=1)
        event["data"] = {"object": public(thing)}
        self.events.append(event)
        if self.deliver is not None:
            self.deliver(event)


def public(thing: Thing) -> Thing:
    """A copy as Stripe shows it."""
    return deepcopy({name: value for name, value in thing.items() if not name.startswith("_")})


def _price(id: str) -> Thing:
    return {"id": id, "object": "price", "type": "recurring", "recurring": {"interval": "month", "interval_count": 1}}
