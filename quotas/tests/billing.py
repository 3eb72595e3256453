"""What tests of billing have in common: somebody who buys at the double, and events that come in."""

from typing import Any

from django.test import Client

from accounts.models import User
from quotas.models import Plan, PlanLimit, Quota, Subscription
from quotas.stripe_double import StripeDouble
from quotas.stripe_double.account import Thing

WEBHOOK = "/api/v1/billing/webhook"
PRICES = {"pro": "price_pro", "team": "price_team"}


class Buyer:
    """A user, their API client, and the double at which they buy."""

    def __init__(self, user: User, client: Client, double: StripeDouble) -> None:
        self.user, self.client, self.double = user, client, double
        self.account = double.account

    def post(self, path: str, status: int = 200, **body: Any) -> Any:
        answer = self.client.post(f"/api/v1/{path}", body)
        assert answer.status_code == status, answer.content
        return answer.json()

    def checkout(self, plan: str = "pro") -> str:
        """The id of the session."""
        return self.post("billing/checkout-session", 201, plan=plan)["url"].rpartition("/")[2]

    def buy(self, plan: str = "pro") -> Thing:
        bought = self.account.pay(self.checkout(plan))
        self.hear()
        return bought

    def hear(self) -> None:
        """Get all events that were not sent yet."""
        for event in take_events(self.double):
            assert send(self.client, self.double, event).status_code == 200

    @property
    def customer_id(self) -> str:
        return User.objects.get(pk=self.user.pk).stripe_customer_id

    @property
    def subscription(self) -> Subscription:
        return Subscription.objects.live().select_related("plan", "next_plan").get(user=self.user)

    def standing(self) -> tuple[str, str, str]:
        """The plan, the state, and the plan whose limits the quotas have."""
        return self.subscription.plan.slug, self.subscription.status, self.limits()

    def limits(self) -> str:
        quotas = Quota.objects.of_user(self.user.pk)
        found = {(row.resource_type, row.unit, row.period): row.base_limit for row in quotas}
        for plan in Plan.objects.prefetch_related("limits"):
            if {(row.resource_type, row.unit, row.period): row.limit for row in plan.limits.all()} == found:
                return plan.slug
        return f"no plan's: {found}"


def take_events(double: StripeDouble) -> list[Thing]:
    events = list(double.account.events)
    double.account.events.clear()
    return events


def send(client: Client, double: StripeDouble, event: Thing, **options: Any) -> Any:
    payload, signature = double.account.signed(event, **options)
    return client.generic("POST", WEBHOOK, payload, "application/json", headers={"Stripe-Signature": signature})


def sell_plans() -> None:
    """Give the seeded plans prices, and limits that tell them apart."""
    for slug, price in PRICES.items():
        Plan.objects.filter(slug=slug).update(stripe_price_id=price)
    assert len({frozenset(limits) for limits in _limits().values()}) == 3


def _limits() -> dict[str, set[tuple[Any, ...]]]:
    found: dict[str, set[tuple[Any, ...]]] = {}
    for row in PlanLimit.objects.select_related("plan"):
        found.setdefault(row.plan.slug, set()).add((row.resource_type, row.unit, row.period, row.limit))
    return found
