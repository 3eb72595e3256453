"""What operators do about subscriptions and the events of Stripe."""

import pytest

from accounts.models import AuditEvent
from quotas import services
from quotas.models import Plan, Quota, StripeEvent, Subscription
from quotas.tests.factories import SubscriptionFactory
from tests.admin import act, messages, page
from tests.shape import error_of

REASON = {"reason": "Ticket 7"}


@pytest.fixture
def operator(client, olga):
    client.force_login(olga)
    return client


@pytest.fixture
def given(alice, olga):
    """Alice has got the plan pro from an operator."""
    services.change_plan(user_id=alice.pk, plan=Plan.objects.get(slug="pro"), by=olga)
    return Subscription.objects.get(user=alice)


def plan(slug):
    return str(Plan.objects.get(slug=slug).pk)


def told(action):
    event = AuditEvent.objects.filter(action=action).latest("id")
    return event.actor_email, event.metadata["reason"]


def test_a_given_subscription_lives_its_life_in_the_admin(operator, given, alice):
    answer = act(operator, given, "change_plan", plan=plan("free"), at_once="no", **REASON)
    assert messages(answer, operator) == ["alice@example.com is on Free when the period ends."]
    act(operator, given, "resume", **REASON)
    act(operator, given, "cancel", **REASON)
    given.refresh_from_db()
    assert (given.next_plan, given.cancel_at_period_end) == (None, True)

    act(operator, given, "start_trial", plan=plan("team"), days="5", **REASON)
    given.refresh_from_db()
    assert (given.plan.slug, given.status, given.cancel_at_period_end) == ("team", "trialing", False)
    assert Quota.objects.get(user=alice, unit="requests").base_limit == 50_000

    act(operator, given, "end_now", **REASON)
    given.refresh_from_db()
    assert given.status == "canceled"
    assert Subscription.objects.live().get(user=alice).plan.slug == "free"
    actions = ("change_planned", "resumed", "cancel_planned", "trial_started", "ended")
    assert {told(f"billing.{action}") for action in actions} == {("olga@example.com", "Ticket 7")}


@pytest.mark.parametrize("action", ["change_plan", "start_trial", "cancel", "resume", "end_now"])
def test_what_has_ended_is_left_alone(operator, action):
    ended = SubscriptionFactory(status="canceled")

    assert operator.get(page(ended, action)).status_code == 403


@pytest.mark.parametrize(
    ("action", "fields", "message"),
    [
        ("change_plan", {"plan": "free", "at_once": "no"}, "The plan is Free already."),
    ],
)
def test_what_makes_no_sense_is_answered_with_a_sentence(operator, alice, action, fields, message):
    services.provision(user_id=alice.pk)
    row = Subscription.objects.get(user=alice)
    fields = {name: plan(value) if name == "plan" else value for name, value in fields.items()}

    assert messages(act(operator, row, action, **fields, **REASON), operator) == [message]


def test_what_stripe_sells_is_changed_at_stripe(operator, buyer):
    bought = buyer.buy("pro")
    row = buyer.subscription
    for shown in (row, buyer.user):
        link = f"https://dashboard.stripe.com/test/customers/{buyer.customer_id}"
        assert link in operator.get(page(shown)).content.decode()

    act(operator, row, "change_plan", plan=plan("team"), at_once="yes", **REASON)
    assert bought["items"]["data"][0]["price"]["id"] == "price_team"
    act(operator, row, "change_plan", plan=plan("pro"), at_once="no", **REASON)
    assert bought["schedule"]
    act(operator, row, "resume", **REASON)
    assert bought["schedule"] is None
    assert operator.get(page(row, "start_trial")).status_code == 403
    act(operator, row, "end_now", **REASON)
    assert bought["status"] == "canceled"
    assert buyer.standing() == ("free", "active", "free")


def test_a_stored_event_is_replayed(operator, buyer, olga):
    buyer.buy("pro")
    event = StripeEvent.objects.filter(status="applied").first()
    assert buyer.customer_id in operator.get(page(event)).content.decode()

    answer = act(operator, event, "replay")

    assert messages(answer, operator) == [f"{event.type} was replayed."]
    event.refresh_from_db()
    assert event.attempts == 2
    assert AuditEvent.objects.get(action="billing.event_replayed").actor_id == olga.pk
    buyer.double.is_down = True
    assert messages(act(operator, event, "replay"), operator) == ["Stripe does not answer. Try again."]


def test_from_a_trial_at_stripe_to_free_it_takes_until_the_trial_ends_and_the_message_says_so(operator, buyer):
    Plan.objects.filter(slug="pro").update(trial_days=14)
    buyer.buy("pro")

    answer = act(operator, buyer.user, "change_plan", plan=plan("free"), at_once="yes", **REASON)

    assert messages(answer, operator) == [f"{buyer.user} is on the default plan when the trial ends."]
    assert buyer.subscription.status == "trialing"


def test_what_another_account_of_stripes_sells_is_ended_here(operator, buyer):
    buyer.buy("pro")
    buyer.account.subscriptions.clear()
    buyer.account.customers.clear()
    row = buyer.subscription

    assert error_of(buyer.client.post("/api/v1/users/me/subscription/cancel", {"at_once": True}), 409)["code"] == (
        "customer_unknown"
    )
    assert not AuditEvent.objects.filter(action="billing.ended").exists()
    answer = act(operator, row, "end_now", **REASON)

    assert messages(answer, operator)[-1].startswith("The subscription has ended here.")
    assert told("billing.ended") == ("olga@example.com", "Ticket 7")
    assert buyer.standing() == ("free", "active", "free")
    buyer.buy("team")
    assert buyer.standing() == ("team", "active", "team")


def test_what_has_ended_at_stripe_unheard_is_no_deed_of_the_operator(operator, buyer):
    bought = buyer.buy("pro")
    buyer.account.end(bought)

    act(operator, buyer.subscription, "end_now", **REASON)

    assert buyer.standing() == ("free", "active", "free")
    assert not AuditEvent.objects.filter(action="billing.ended").exists()


def test_another_plan_at_once_calls_off_an_end_that_was_planned(operator, given):
    act(operator, given, "cancel", **REASON)

    act(operator, given, "change_plan", plan=plan("team"), at_once="yes", **REASON)

    given.refresh_from_db()
    assert (given.plan.slug, given.awaits_something, given.canceled_at) == ("team", False, None)


@pytest.mark.parametrize("action", ["cancel", "resume", "end_now"])
def test_what_makes_no_sense_on_the_default_plan_is_not_offered(operator, alice, action):
    services.provision(user_id=alice.pk)
    row = Subscription.objects.get(user=alice)

    assert page(row, action) not in operator.get(page(row)).content.decode()
    assert operator.get(page(row, action)).status_code == 403


def test_the_list_shows_what_stripe_sells_what_is_planned_and_what_is_paid_twice(operator, given, buyer):
    act(operator, given, "change_plan", plan=plan("free"), at_once="no", **REASON)
    rows = operator.get(page(Subscription, "changelist")).content.decode()
    assert "then Free, " in rows
    assert "paid twice" not in rows
    SubscriptionFactory(status="unpaid", is_suspended=True)
    bought = buyer.buy("pro")
    buyer.account._begin(buyer.customer_id, "price_team", 0, {})
    buyer.hear()

    rows = operator.get(page(Subscription, "changelist")).content.decode()

    assert [words in rows for words in ("paid twice", "suspended")] == [True, True]
    assert f"https://dashboard.stripe.com/test/subscriptions/{bought['id']}" in (
        operator.get(page(buyer.subscription)).content.decode()
    )


def test_the_page_of_a_user_shows_the_state_of_the_plan_and_the_customer_once(operator, buyer):
    buyer.buy("pro")
    buyer.post("users/me/subscription/cancel")

    shown = operator.get(page(buyer.user)).content.decode()

    assert page(buyer.subscription) in shown
    assert "ends, " in shown
    assert shown.count(f">{buyer.customer_id}<") == 1


def test_a_long_id_leaves_room_in_the_list_of_events(operator, buyer):
    buyer.buy("pro")
    StripeEvent.objects.update(customer_id="cus_" + 200 * "x")

    assert 100 * "x" not in operator.get(page(StripeEvent, "changelist")).content.decode()
