"""The rows that a measurement needs: users with keys on a plan without limits, models at the stub; and their books."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from django.db import transaction
from django.db.models import Q, Sum

from accounts import services as accounts
from accounts.models import User
from inference.models import Model, Provider, Request
from quotas import services as quotas
from quotas.models import Plan, PlanLimit, Quota, Reservation
from quotas.windows import MOST_RATE

NO_LIMIT = 10**15


@dataclass(frozen=True, slots=True)
class Customer:
    """A user with a key."""

    user_id: UUID
    api_key_id: UUID
    key: str


def make_customers(count: int) -> list[Customer]:
    """Users on a plan that limits what the plan `pro` limits, and all rates, with limits that nobody reaches."""
    with transaction.atomic():
        limits = {
            "requests": dict.fromkeys(("second", "minute", "day"), MOST_RATE),
            "tokens": {"minute": MOST_RATE},
        }
        plan = Plan.objects.create(slug="bench", name="Bench", is_active=False, rate_limits={"default": limits})
        for limit in PlanLimit.objects.filter(plan__slug="pro"):
            limit.pk, limit.plan, limit.limit = PlanLimit().pk, plan, NO_LIMIT
            limit._state.adding = True
            limit.save()
        return [_make_customer(number, plan) for number in range(count)]


def _make_customer(number: int, plan: Plan) -> Customer:
    user = User.objects.create_user(f"bench{number}@example.com", None)
    quotas.change_plan(user_id=user.pk, plan=plan, by=user)
    key, raw = accounts.create_api_key(user_id=user.pk, name="Bench", by=user)
    return Customer(user.pk, key.pk, raw)


def make_models(base_url: str, *names: str) -> None:
    """Models of the stub at `base_url`, under the names that it knows."""
    provider = Provider.objects.create(name="stub", base_url=base_url)
    Model.objects.bulk_create([Model(name=name, upstream_name=name, provider=provider) for name in names])


@dataclass(frozen=True, slots=True)
class Books:
    """What the database says after the calls."""

    recorded: int
    charged: int
    unsettled: int


def read_books() -> Books:
    """Count the requests that ended well, the calls that were charged, and whatever is still open."""
    held = Quota.objects.filter(held__gt=0).count() + Reservation.objects.filter(status="held").count()
    charged = Quota.objects.filter(resource_type="llm", unit="requests").aggregate(sum=Sum("current_usage"))["sum"]
    return Books(
        recorded=Request.objects.filter(status="success").count(),
        charged=charged or 0,
        unsettled=held + Request.objects.filter(Q(status="running") | Q(finished_at=None)).count(),
    )
