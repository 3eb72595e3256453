"""The events that tell of subscriptions."""

import pytest

from quotas import services, subscriptions
from quotas.models import Event, Plan, Subscription
from quotas.tests.factories import PlanFactory, SubscriptionFactory


def told():
    rows = Event.objects.filter(type="subscription.changed").order_by("id")
    return [(row.user_id, row.payload["plan"], row.payload["status"]) for row in rows]


def test_a_change_of_plan_is_told_with_what_the_receiver_needs(alice, olga):
    services.provision(user_id=alice.pk)
    services.change_plan(user_id=alice.pk, plan=Plan.objects.get(slug="pro"), by=olga)
    Subscription.objects.get().save()

    event = Event.objects.get()
    assert event.user_id == alice.pk
    assert event.payload == {
        "subscription_id": str(Subscription.objects.get().pk),
        "plan": "pro",
        "next_plan": None,
        "status": "active",
        "is_suspended": False,
        "cancel_at_period_end": False,
        "current_period_end": None,
    }


def test_an_end_is_told_and_the_default_plan_after_it_is_not(alice, olga):
    SubscriptionFactory(user=alice, plan=PlanFactory(slug="gold"))
    subscriptions.end_now(user_id=alice.pk, by=olga)

    assert told() == [(alice.pk, "gold", "canceled")]


@pytest.mark.parametrize(("stripe_id", "count"), [("sub_1", 1), (None, 0)])
def test_a_beginning_is_told_if_it_is_sold(alice, stripe_id, count):
    extra = {"stripe_customer_id": "cus_1", "stripe_subscription_id": stripe_id} if stripe_id else {}
    SubscriptionFactory(user=alice, plan=PlanFactory(slug="gold"), **extra)

    assert told() == [(alice.pk, "gold", "active")] * count
