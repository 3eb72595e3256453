"""Whole lives of subscriptions: real calls of the SDK to the double, its events, and what the user may use."""

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from accounts.models import AuditEvent
from quotas import services, subscriptions
from quotas.meters import Meter
from quotas.models import Plan, Quota, StripeEvent, Subscription

CHANGE, CANCEL, RESUME = (f"users/me/subscription/{name}" for name in ("change", "cancel", "resume"))


def later(buyer, **time):
    """When the double's clock and ours are so much further on; our own chores are done then, twice."""
    buyer.account.advance(**time)
    buyer.hear()
    for _ in range(2):
        subscriptions.advance_due(now=datetime.fromtimestamp(buyer.account.now, UTC))


def test_a_whole_life(buyer):
    services.consume(user_id=buyer.user.pk, amounts={Meter("llm", "requests"): 7})
    assert buyer.standing() == ("free", "active", "free")

    buyer.buy("pro")
    assert buyer.standing() == ("pro", "active", "pro")
    bought = buyer.subscription
    assert bought.anchored_at.timestamp() == buyer.account.now

    buyer.post(CHANGE, plan="team")
    assert buyer.standing() == ("team", "active", "team")

    answer = buyer.post(CHANGE, plan="pro")
    assert (answer["plan"]["slug"], answer["next_plan"]["slug"]) == ("team", "pro")
    later(buyer, days=29)
    assert buyer.standing() == ("team", "active", "team")
    later(buyer, days=2)
    assert buyer.standing() == ("pro", "active", "pro")

    buyer.account.break_card(buyer.customer_id)
    later(buyer, days=30)
    assert buyer.standing() == ("pro", "past_due", "pro")
    later(buyer, days=5)
    assert buyer.limits() == "pro"
    later(buyer, days=2)
    assert buyer.standing() == ("pro", "past_due", "free")
    assert buyer.subscription.is_suspended

    buyer.account.mend_card(buyer.customer_id)
    buyer.hear()
    assert buyer.standing() == ("pro", "active", "pro")

    assert buyer.post(CANCEL)["cancel_at_period_end"] is True
    assert buyer.post(RESUME)["cancel_at_period_end"] is False
    later(buyer, days=30)
    assert buyer.standing() == ("pro", "active", "pro")

    buyer.post(CANCEL)
    buyer.hear()
    assert buyer.standing() == ("pro", "active", "pro")
    later(buyer, days=31)
    assert buyer.standing() == ("free", "active", "free")

    assert Subscription.objects.get(pk=bought.pk).status == "canceled"
    assert Quota.objects.get(user=buyer.user, resource_type="llm", unit="requests").current_usage == 7
    assert not StripeEvent.objects.filter(status="failed").exists()
    assert set(StripeEvent.objects.filter(status="ignored").values_list("type", flat=True)) == {"customer.created"}


def test_a_trial_is_had_once_and_then_billed(buyer):
    Plan.objects.filter(slug="pro").update(trial_days=14)

    buyer.buy("pro")
    assert buyer.standing() == ("pro", "trialing", "pro")
    assert buyer.subscription.trial_end == buyer.subscription.anchored_at
    # Nothing is paid yet, so that nothing is lost by a change at once.
    buyer.post(CHANGE, plan="team")
    buyer.post(CHANGE, plan="pro")
    assert buyer.subscription.next_plan is None
    later(buyer, days=15)
    assert buyer.standing() == ("pro", "active", "pro")

    buyer.post(CANCEL, at_once=True)
    assert buyer.standing() == ("free", "active", "free")
    buyer.buy("pro")
    assert buyer.standing() == ("pro", "active", "pro")


@pytest.mark.parametrize(
    ("after_retries", "standing"), [("unpaid", ("pro", "unpaid", "free")), ("canceled", ("free", "active", "free"))]
)
def test_what_stays_unpaid_gives_the_default_plan(buyer, after_retries, standing):
    buyer.account.after_retries = after_retries
    buyer.buy("pro")
    buyer.account.break_card(buyer.customer_id)

    later(buyer, days=30 + 22)

    assert buyer.standing() == standing


def test_a_first_payment_that_fails_takes_nothing_away(buyer, olga):
    services.change_plan(user_id=buyer.user.pk, plan=Plan.objects.get(slug="team"), by=olga)
    session = buyer.checkout("pro")
    buyer.account.break_card(buyer.customer_id)

    buyer.account.pay(session)
    buyer.hear()

    assert buyer.standing() == ("team", "active", "team")
    buyer.account.mend_card(buyer.customer_id)
    buyer.hear()
    assert buyer.standing() == ("pro", "active", "pro")


def test_a_purchase_that_is_never_paid_expires(buyer):
    session = buyer.checkout("pro")
    buyer.account.break_card(buyer.customer_id)
    buyer.account.pay(session)
    services.provision(user_id=buyer.user.pk)
    buyer.hear()
    assert buyer.standing() == ("pro", "incomplete", "free")

    later(buyer, hours=24)

    assert buyer.standing() == ("free", "active", "free")
    assert Subscription.objects.filter(user=buyer.user, status="incomplete_expired").count() == 1


def test_a_customer_who_is_deleted_at_stripe_is_on_the_default_plan_and_can_buy_again(buyer):
    buyer.buy("pro")
    former = buyer.customer_id

    buyer.account.delete_customer(former)
    buyer.hear()
    assert buyer.standing() == ("free", "active", "free")

    buyer.buy("team")
    assert buyer.standing() == ("team", "active", "team")
    assert buyer.customer_id != former


def test_an_end_on_a_day_that_was_set_at_stripe_is_called_off(buyer):
    bought = buyer.buy("pro")
    buyer.account.change(bought, {"cancel_at": buyer.account.now + 864_000})
    buyer.hear()
    assert buyer.subscription.cancel_at_period_end

    assert buyer.post(RESUME)["cancel_at_period_end"] is False
    assert bought["cancel_at"] is None


def test_who_bought_at_a_former_price_keeps_the_plan(buyer):
    buyer.buy("pro")
    Plan.objects.filter(slug="pro").update(stripe_price_id="price_pro_2027")

    later(buyer, days=31)

    assert buyer.standing() == ("pro", "active", "pro")


def test_what_was_bought_twice_counts_once_and_the_other_one_comes_after_it(buyer):
    first = buyer.buy("pro")
    second = buyer.account._begin(buyer.customer_id, "price_team", 0, {})
    buyer.hear()
    assert buyer.standing() == ("team", "active", "team")

    buyer.account.end(second)
    buyer.hear()

    assert buyer.standing() == ("pro", "active", "pro")
    assert buyer.subscription.stripe_subscription_id == first["id"]


def test_who_did_it_is_in_the_audit_log(buyer):
    buyer.buy("pro")
    buyer.post(CHANGE, plan="team")
    buyer.post(CANCEL)

    found = AuditEvent.objects.filter(action__startswith="billing.").order_by("id")
    assert list(found.exclude(action="billing.synced").values_list("action", "actor_id")) == [
        ("billing.customer_made", buyer.user.pk),
        ("billing.checkout_opened", buyer.user.pk),
        ("billing.plan_changed", buyer.user.pk),
        ("billing.cancel_planned", buyer.user.pk),
    ]
    synced = found.filter(action="billing.synced")
    assert [(event.metadata["former"].get("plan"), event.metadata["now"]["plan"]) for event in synced] == [
        (None, "pro"),
        ("pro", "team"),
        ("team", "team"),
    ]


# Without Stripe ------------------------------------------------------------------------------------------------------

JAN_31 = datetime(2026, 1, 31, 12, tzinfo=UTC)


def subscribed(user, olga, **fields):
    services.change_plan(user_id=user.pk, plan=Plan.objects.get(slug="pro"), by=olga)
    Subscription.objects.filter(user=user).update(**fields)
    return Subscription.objects.get(user=user)


def plan_of(user):
    found = Subscription.objects.live().get(user=user)
    return found.plan.slug, found.status


def test_a_local_plan_goes_down_at_the_end_of_its_month(api, alice, olga):
    subscribed(alice, olga)

    answer = api(alice).post("/api/v1/users/me/subscription/change", {"plan": "free"}).json()
    assert (answer["plan"]["slug"], answer["next_plan"]["slug"]) == ("pro", "free")
    end = datetime.fromisoformat(answer["current_period_end"])
    assert subscriptions.advance_due(now=end - timedelta(seconds=1)) == 0

    assert subscriptions.advance_due(now=end) == 1
    assert subscriptions.advance_due(now=end) == 0
    assert plan_of(alice) == ("free", "active")


def test_a_local_plan_is_canceled_resumed_and_ends(api, alice, olga):
    subscribed(alice, olga)
    client = api(alice)
    assert client.post(f"/api/v1/{CHANGE}", {"plan": "free"}).json()["next_plan"]["slug"] == "free"
    assert client.post(f"/api/v1/{CHANGE}", {"plan": "pro"}).json()["next_plan"] is None
    assert client.post(f"/api/v1/{CANCEL}").json()["cancel_at_period_end"] is True
    assert client.post(f"/api/v1/{CHANGE}", {"plan": "pro"}).json()["cancel_at_period_end"] is False
    for path in (CANCEL, RESUME, CANCEL):
        assert client.post(f"/api/v1/{path}", {}).status_code == 200
    assert client.post(f"/api/v1/{CANCEL}", {}).json()["error"]["code"] == "already_canceled"
    end = Subscription.objects.get(user=alice).current_period_end

    assert subscriptions.advance_due(now=end) == 1

    assert plan_of(alice) == ("free", "active")
    assert Quota.objects.get(user=alice, resource_type="llm", unit="requests").base_limit == 200


def test_a_trial_that_an_operator_gave_ends_by_itself(alice, olga):
    subscriptions.start_trial(user_id=alice.pk, plan=Plan.objects.get(slug="team"), days=3, by=olga)
    assert plan_of(alice) == ("team", "trialing")

    assert subscriptions.advance_due(now=timezone.now() + timedelta(days=3, seconds=1)) == 1

    assert plan_of(alice) == ("free", "active")
    assert AuditEvent.objects.filter(action="billing.trial_ended").count() == 1


def test_a_trial_goes_over_into_a_plan_that_was_planned(alice, olga):
    team, pro = Plan.objects.get(slug="team"), Plan.objects.get(slug="pro")
    subscriptions.start_trial(user_id=alice.pk, plan=team, days=3, by=olga)
    subscriptions.change_at_period_end(user_id=alice.pk, plan=pro, by=olga)

    assert subscriptions.advance_due(now=timezone.now() + timedelta(days=3, seconds=1)) == 1

    assert plan_of(alice) == ("pro", "active")
