"""GET /api/v1/users/me/subscription."""

from datetime import UTC, datetime

import pytest

from quotas import services
from quotas.models import Plan, Subscription
from quotas.tests.factories import SubscriptionFactory

PATH = "/api/v1/users/me/subscription"
MAY, JUNE = datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 6, 1, tzinfo=UTC)
FREE = {"slug": "free", "name": "Free"}
NOTHING_PLANNED = {
    "next_plan": None,
    "sold_by": None,
    "is_suspended": False,
    "trial_end": None,
    "grace_until": None,
    "cancel_at_period_end": False,
}


def test_who_has_none_is_on_the_default_plan(api, alice):
    answer = api(alice).get(PATH)

    assert answer.status_code == 200
    assert answer.json() == {
        "plan": FREE,
        "status": "active",
        "current_period_start": None,
        "current_period_end": None,
        "canceled_at": None,
        **NOTHING_PLANNED,
    }
    assert not Subscription.objects.exists()


def test_a_subscription_is_shown_with_its_period(api, alice, bob):
    SubscriptionFactory(
        user=alice,
        plan=Plan.objects.get(slug="pro"),
        status="past_due",
        current_period_start=MAY,
        current_period_end=JUNE,
        canceled_at=MAY,
    )
    SubscriptionFactory(user=bob, plan=Plan.objects.get(slug="team"))

    assert api(alice).get(PATH).json() == {
        "plan": {"slug": "pro", "name": "Pro"},
        "status": "past_due",
        "current_period_start": "2026-05-01T00:00:00Z",
        "current_period_end": "2026-06-01T00:00:00Z",
        "canceled_at": "2026-05-01T00:00:00Z",
        **NOTHING_PLANNED,
    }


def test_one_that_has_ended_does_not_count(api, alice):
    SubscriptionFactory(user=alice, plan=Plan.objects.get(slug="team"), status="canceled")

    assert api(alice).get(PATH).json()["plan"] == FREE


def test_the_first_call_begins_a_period(api, alice):
    services.provision(user_id=alice.pk)

    assert api(alice).get(PATH).json()["current_period_start"] is not None


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_it_cannot_be_changed_here(api, alice, method):
    assert getattr(api(alice), method)(PATH).status_code == 405


def test_without_a_default_plan_there_is_nothing_to_show(api, alice):
    Plan.objects.update(is_default=False)

    assert api(alice).get(PATH).status_code == 404
