"""Which paths the double answers, and with which parameters; the names are those of Stripe's API."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from quotas.stripe_double.account import Account, Refused, Thing, public

Params = dict[str, Any]
LIST = ("limit", "starting_after")


@dataclass(frozen=True, slots=True)
class Route:
    """`accepts` names parameters as they are sent, with empty brackets for a number and for a key of metadata."""

    method: str
    path: str
    accepts: tuple[str, ...]
    answer: Callable[[Account, Params, str], Thing]

    def matches(self, method: str, path: str) -> str | None:
        """The id in the path, or an empty text if it has none; None if this is another route."""
        found = re.fullmatch(self.path.replace("{id}", r"(?P<id>[^/]+)"), path)
        if found is None or method != self.method:
            return None
        return found.groupdict().get("id", "")


def read_params(text: str, accepts: tuple[str, ...]) -> Params:
    """What was sent, nested; `Refused` on a parameter that is not accepted."""
    params: Params = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        general = re.sub(r"\[\d+\]", "[]", re.sub(r"(metadata\]?)\[[^\]]+\]", r"\1[]", name))
        if general not in accepts:
            raise Refused(f"Received unknown parameter: {name}", code="parameter_unknown", param=name)
        *path, last = re.findall(r"[^\[\]]+", name)
        here = params
        for step in path:
            here = here.setdefault(step, {})
        here[last] = value
    nested: Params = _with_lists(params)
    return nested


def _with_lists(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    inner = {name: _with_lists(found) for name, found in value.items()}
    if inner and all(name.isdecimal() for name in inner):
        return [inner[name] for name in sorted(inner, key=int)]
    return inner


def _needed(params: Params, *names: str) -> None:
    for name in names:
        if name not in params:
            raise Refused(f"Missing required param: {name}.", code="parameter_missing", param=name)


def _list(things: list[Thing], params: Params, path: str) -> Thing:
    """A page of a list, newest first."""
    newest = sorted(things, key=lambda thing: str(thing["id"]), reverse=True)
    if after := params.get("starting_after"):
        newest = [thing for thing in newest if thing["id"] < after]
    limit = int(params.get("limit", 10))
    page = [public(thing) for thing in newest[:limit]]
    return {"object": "list", "data": page, "has_more": len(newest) > limit, "url": path}


def create_customer(account: Account, params: Params, _id: str) -> Thing:
    return account.create_customer(params.get("email", ""), params.get("metadata"))


def retrieve_customer(account: Account, params: Params, id: str) -> Thing:
    return account.find(account.customers, id, "customer")


def create_session(account: Account, params: Params, _id: str) -> Thing:
    _needed(params, "mode", "customer", "line_items", "success_url")
    if params["mode"] != "subscription":
        raise Refused("Only subscriptions are sold here.", param="mode")
    terms = params.get("subscription_data", {})
    return account.create_session(
        customer=params["customer"],
        price=params["line_items"][0]["price"],
        trial_days=int(terms.get("trial_period_days", 0)),
        metadata=terms.get("metadata", {}),
        success_url=params["success_url"],
        cancel_url=params.get("cancel_url"),
        client_reference_id=params.get("client_reference_id"),
    )


def list_sessions(account: Account, params: Params, _id: str) -> Thing:
    account.known_customer(params["customer"])
    mine = [one for one in account.sessions.values() if one["customer"] == params["customer"]]
    return _list([one for one in mine if one["status"] == params["status"]], params, "/v1/checkout/sessions")


def expire_session(account: Account, params: Params, id: str) -> Thing:
    session = account.find(account.sessions, id, "checkout session")
    if session["status"] != "open":
        raise Refused("Only open sessions can be expired.")
    session["status"] = "expired"
    return session


def create_portal(account: Account, params: Params, _id: str) -> Thing:
    _needed(params, "customer")
    account.known_customer(params["customer"])
    return {
        "id": "bps_1",
        "object": "billing_portal.session",
        "customer": params["customer"],
        "return_url": params.get("return_url"),
        "url": f"https://billing.stripe.invalid/{params['customer']}",
    }


def list_subscriptions(account: Account, params: Params, _id: str) -> Thing:
    found = list(account.subscriptions.values())
    if customer := params.get("customer"):
        account.known_customer(customer)
        found = [one for one in found if one["customer"] == customer]
    if params.get("status") != "all":
        found = [one for one in found if one["status"] != "canceled"]
    page = _list(found, params, "/v1/subscriptions")
    if set(params.get("expand", [])) - {"data.schedule"}:
        raise Refused("This cannot be expanded.", param="expand")
    for one in page["data"] if params.get("expand") else ():
        one["schedule"] = public(account.schedules[one["schedule"]]) if one["schedule"] else None
    return page


def update_subscription(account: Account, params: Params, id: str) -> Thing:
    changes: Params = {}
    if "items" in params:
        changes["item"] = (params["items"][0]["id"], params["items"][0]["price"])
    if "cancel_at_period_end" in params:
        changes["cancel_at_period_end"] = params["cancel_at_period_end"] == "true"
    if "cancel_at" in params:
        changes["cancel_at"] = int(params["cancel_at"]) if params["cancel_at"] else None
    return account.change(account.find(account.subscriptions, id, "subscription"), changes)


def cancel_subscription(account: Account, params: Params, id: str) -> Thing:
    return account.end(account.find(account.subscriptions, id, "subscription"))


def create_schedule(account: Account, params: Params, _id: str) -> Thing:
    _needed(params, "from_subscription")
    named = account.find(account.subscriptions, params["from_subscription"], "subscription", "from_subscription")
    return account.create_schedule(named)


def update_schedule(account: Account, params: Params, id: str) -> Thing:
    _needed(params, "phases")
    for phase in params["phases"]:
        for name in {"start_date", "end_date"} & phase.keys():
            phase[name] = int(phase[name])
    return account.plan_phases(account.find(account.schedules, id, "schedule"), params["phases"])


def release_schedule(account: Account, params: Params, id: str) -> Thing:
    return account.release(account.find(account.schedules, id, "schedule"))


def list_invoices(account: Account, params: Params, _id: str) -> Thing:
    mine = [one for one in account.invoices.values() if one["_subscription"] == params["subscription"]]
    return _list([one for one in mine if one["status"] == params["status"]], params, "/v1/invoices")


SESSION = (
    *("mode", "customer", "client_reference_id", "line_items[][price]", "line_items[][quantity]", "success_url"),
    *("cancel_url", "subscription_data[metadata][]", "subscription_data[trial_period_days]"),
)
SCHEDULE = (
    *("end_behavior", "proration_behavior", "phases[][items][][price]", "phases[][items][][quantity]"),
    *("phases[][start_date]", "phases[][end_date]", "phases[][duration][interval]"),
)
CHANGES = ("items[][id]", "items[][price]", "cancel_at_period_end", "cancel_at")

ROUTES = (
    Route("POST", "/v1/customers", ("email", "metadata[]"), create_customer),
    Route("GET", "/v1/customers/{id}", (), retrieve_customer),
    Route("POST", "/v1/checkout/sessions", SESSION, create_session),
    Route("GET", "/v1/checkout/sessions", ("customer", "status", *LIST), list_sessions),
    Route("POST", "/v1/checkout/sessions/{id}/expire", (), expire_session),
    Route("POST", "/v1/billing_portal/sessions", ("customer", "return_url"), create_portal),
    Route("GET", "/v1/subscriptions", ("customer", "status", "expand[]", *LIST), list_subscriptions),
    Route("POST", "/v1/subscriptions/{id}", CHANGES, update_subscription),
    Route("DELETE", "/v1/subscriptions/{id}", (), cancel_subscription),
    Route("POST", "/v1/subscription_schedules", ("from_subscription",), create_schedule),
    Route("POST", "/v1/subscription_schedules/{id}", SCHEDULE, update_schedule),
    Route("POST", "/v1/subscription_schedules/{id}/release", (), release_schedule),
    Route("GET", "/v1/invoices", ("subscription", "status", *LIST), list_invoices),
)
