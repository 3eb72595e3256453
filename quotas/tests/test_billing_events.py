"""Stripe's webhook: whatever comes, however often and in whatever order, ends where Stripe says."""

import json
import random
import threading
import time

import pytest
import stripe
from django.core.management import CommandError, call_command
from django.db import connection, transaction

from accounts.models import AuditEvent
from quotas import stripe_catchup, stripe_events, stripe_sync, tasks
from quotas.exceptions import StripeUnavailable
from quotas.models import Plan, Quota, StripeEvent, Subscription
from quotas.tests.billing import WEBHOOK, send, take_events
from tests.shape import error_of


def state_of(user):
    """What must be the same in the end."""
    fields = ("plan__slug", "next_plan__slug", "status", "stripe_subscription_id", "is_suspended", "anchored_at")
    more = ("current_period_start", "current_period_end", "trial_end", "grace_until", "cancel_at_period_end")
    quotas = Quota.objects.of_user(user.pk).order_by("resource_type", "unit", "period")
    return (
        Subscription.objects.live().filter(user=user).values(*fields, *more).get(),
        list(quotas.values_list("resource_type", "unit", "period", "base_limit", "limit", "current_usage", "held")),
    )


def eventful(buyer):
    """Bought, raised, owed, paid, ended, bought again, owed again: after each step, nobody has told us."""
    account = buyer.account
    bought = account.pay(buyer.checkout("pro"))
    yield
    account.change(bought, {"item": (bought["items"]["data"][0]["id"], "price_team")})
    yield
    account.break_card(bought["customer"])
    account.advance(days=31)
    yield
    account.mend_card(bought["customer"])
    account.change(bought, {"cancel_at_period_end": True})
    yield
    account.end(bought)
    yield
    again = account.pay(buyer.checkout("pro"))
    yield
    account.break_card(again["customer"])
    account.advance(days=31)
    yield


# Any order, any number of times --------------------------------------------------------------------------------------


def test_events_in_any_order_and_number_end_in_the_same_state(buyer):
    for _step in eventful(buyer):
        pass
    events = take_events(buyer.double)
    assert len(events) > 15
    for event in events:
        send(buyer.client, buyer.double, event)
    expected = state_of(buyer.user)
    assert buyer.standing() == ("pro", "past_due", "pro")
    StripeEvent.objects.all().delete()

    chance = random.Random(7)
    shuffled = [*events, *chance.sample(events, 8)]
    chance.shuffle(shuffled)
    for event in shuffled:
        assert send(buyer.client, buyer.double, event).status_code == 200

    assert state_of(buyer.user) == expected
    assert StripeEvent.objects.count() == len(events)
    assert set(StripeEvent.objects.values_list("attempts", flat=True)) == {1}


@pytest.mark.parametrize("orders", [3, pytest.param(200, marks=pytest.mark.drill)])
def test_answers_in_any_order_end_in_the_state_of_the_last_question(buyer, orders):
    states = [stripe_sync.read_customer(buyer.customer_id) for _step in eventful(buyer)]
    expected, chance = None, random.Random(8)

    for number in range(orders):
        mixed = [*states, *chance.sample(states, 3)] if number else states
        if number:
            chance.shuffle(mixed)
        with transaction.atomic():
            for state in mixed:
                assert stripe_sync.apply(state) == ""
            expected = expected or state_of(buyer.user)
            assert state_of(buyer.user) == expected, mixed
            assert Subscription.objects.live().filter(user=buyer.user).count() == 1
            transaction.set_rollback(True)
    assert expected[0]["status"] == "past_due"


@pytest.mark.django_db(transaction=True)
def test_events_that_come_at_once_are_each_applied_once(buyer):
    for step, _none in enumerate(eventful(buyer)):
        if step == 2:
            break
    events = take_events(buyer.double)
    together, answers = threading.Barrier(3), []

    def deliver(seed):
        mine = random.Random(seed).sample(events, len(events))
        together.wait()
        answers.extend(stripe_events.receive(json.loads(json.dumps(event))).status for event in mine)
        connection.close()

    threads = [threading.Thread(target=deliver, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(answers) == 3 * len(events)
    assert set(answers) == {"applied", "ignored"}
    assert buyer.standing() == ("team", "past_due", "team")
    assert StripeEvent.objects.count() == len(events)
    assert set(StripeEvent.objects.values_list("attempts", flat=True)) == {1}
    synced = AuditEvent.objects.filter(action="billing.synced")
    # Each says another thing than the one before: nothing was done twice.
    told = [(event.metadata["former"], event.metadata["now"]) for event in synced.order_by("id")]
    assert all(former != now for former, now in told)


def test_an_event_grants_nothing_twice(buyer):
    buyer.buy("pro")
    Quota.objects.of_user(buyer.user.pk).update(current_usage=5)
    expected, moved = state_of(buyer.user), AuditEvent.objects.count()
    for event in StripeEvent.objects.all():
        assert send(buyer.client, buyer.double, event.payload).json()["status"] == event.status

    assert (state_of(buyer.user), AuditEvent.objects.count()) == (expected, moved)


# What it refuses -----------------------------------------------------------------------------------------------------

GOOD = b'{"object": "event", "id": "evt_1", "type": "t", "created": 1, "data": {"object": {}}}'


def signature(body, *, at=None, secret="whsec_double"):
    text = body.decode("utf-8", "replace")
    return stripe.WebhookSignature.generate_signature_header(text, secret, at)


FORGED = {
    "not signed": (GOOD, lambda body: ""),
    "signed wrongly": (GOOD, lambda body: "t=1,v1=00"),
    "signed with nonsense": (GOOD, lambda body: "nonsense"),
    "signed by another": (GOOD, lambda body: signature(body, secret="whsec_other")),
    "signed long ago": (GOOD, lambda body: signature(body, at=int(time.time()) - 301)),
    "changed afterwards": (GOOD, lambda body: signature(body.replace(b"evt_1", b"evt_2"))),
    "not UTF-8": (b"\xff\xfe", signature),
}
MALFORMED = {
    "no JSON": b"{",
    "a list": b"[]",
    "not a number": GOOD.replace(b": 1,", b": NaN,"),
    "with a NUL": GOOD.replace(b'"t"', b'"\\u0000"'),
    "with half a character": GOOD.replace(b'"t"', b'"\\ud800"'),
    "with half a character in a name": GOOD.replace(b'{"object": {}}', b'{"object": {"\\udfff": 1}}'),
    "with a number without end": GOOD.replace(b'{"object": {}}', b'{"object": {"n": 1e999}}'),
    "nested deeply": GOOD.replace(b'{"object": {}}', b'{"object": {"l": ' + b"[" * 150 + b"]" * 150 + b"}}"),
    "nested too deeply to be read": GOOD.replace(b'{"object": {}}', b"[" * 50_000 + b"]" * 50_000),
    "an id that is no text": GOOD.replace(b'"evt_1"', b"7"),
    "a date that is none": GOOD.replace(b": 1,", b": 1e99,"),
    "data that are none": GOOD.replace(b'{"object": {}}', b"[]"),
}


def refused(api, body, header):
    answer = api().generic("POST", WEBHOOK, body, "application/json", headers={"Stripe-Signature": header})
    assert not StripeEvent.objects.exists()
    return error_of(answer, 400)["code"]


@pytest.mark.parametrize("what", FORGED)
def test_what_stripe_has_not_sent_is_refused_and_not_kept(db, double, api, what):
    body, sign = FORGED[what]

    assert refused(api, body, sign(body)) == "invalid_signature"


@pytest.mark.parametrize("what", MALFORMED)
def test_what_is_no_event_is_refused_and_not_kept(db, double, api, what):
    assert refused(api, MALFORMED[what], signature(MALFORMED[what])) == "invalid_event"


def test_what_is_too_large_is_refused_and_not_kept(db, double, api):
    body = GOOD + b" " * 1024 * 1024

    assert refused(api, body, signature(body)) == "event_too_large"


def test_two_secrets_are_good_while_one_takes_the_others_place(db, double, api, settings):
    settings.STRIPE_WEBHOOK_SECRETS = ["whsec_new", double.webhook_secret]

    answer = api().generic("POST", WEBHOOK, GOOD, "text/plain", headers={"Stripe-Signature": signature(GOOD)})

    assert answer.json() == {"status": "ignored"}


@pytest.mark.parametrize(
    ("type", "thing", "reason"),
    [
        ("payment_intent.created", {"customer": "cus_1"}, "Events of this type change nothing here."),
        ("customer.subscription.updated", {"customer": "cus_strangers"}, "No user pays as this customer."),
        ("invoice.paid", {"customer": None}, "It names no customer."),
    ],
)
def test_what_concerns_nobody_here_is_kept_and_ignored(db, double, api, type, thing, reason):
    event = double.account._new("evt", "event", type=type, data={"object": thing})

    assert send(api(), double, event).json() == {"status": "ignored"}

    kept = StripeEvent.objects.get()
    assert (kept.status, kept.reason, kept.payload["id"], kept.applied_at) == ("ignored", reason, kept.stripe_id, None)
    assert double.calls == []


def test_a_price_that_no_plan_has_is_ignored_until_one_has_it(buyer, olga):
    session = buyer.checkout("pro")
    Plan.objects.filter(slug="pro").update(stripe_price_id="price_other")
    buyer.account.pay(session)
    buyer.hear()
    event = StripeEvent.objects.filter(type="customer.subscription.created").get()
    assert event.reason.startswith("No plan has the price price_pro of sub_")
    assert not Subscription.objects.exists()
    with pytest.raises(CommandError, match="1 customer could not be written down"):
        call_command("sync_stripe")

    Plan.objects.filter(slug="pro").update(stripe_price_id="price_pro")
    stripe_events.replay(event=event, by=olga)

    assert buyer.standing() == ("pro", "active", "pro")
    event.refresh_from_db()
    assert (event.status, event.reason, event.attempts) == ("applied", "", 2)
    assert AuditEvent.objects.get(action="billing.event_replayed").actor_id == olga.pk


def test_while_stripe_is_down_events_are_kept_as_failed_and_asked_for_again(buyer, olga):
    buyer.account.pay(buyer.checkout("pro"))
    event = take_events(buyer.double)[-1]
    buyer.double.is_down = True
    for _ in range(2):
        assert error_of(send(buyer.client, buyer.double, event), 503)["code"] == "stripe_unavailable"
    kept = StripeEvent.objects.get()
    assert (kept.status, kept.attempts) == ("failed", 2)
    with pytest.raises(StripeUnavailable):
        stripe_events.replay(event=kept, by=olga)

    buyer.double.is_down = False
    assert send(buyer.client, buyer.double, event).json() == {"status": "applied"}

    assert buyer.standing() == ("pro", "active", "pro")
    assert StripeEvent.objects.get().attempts == 4


# Catching up ---------------------------------------------------------------------------------------------------------


def test_sync_makes_good_for_lost_events_and_changes_nothing_the_second_time(buyer, capsys):
    buyer.account.pay(buyer.checkout("pro"))
    buyer.account.create_customer("stranger@example.com")
    for _ in range(2):
        call_command("sync_stripe")
        assert "1 customer written down" in capsys.readouterr().out
        assert buyer.standing() == ("pro", "active", "pro")

    buyer.account.delete_customer(buyer.customer_id)
    call_command("sync_stripe", user=buyer.user.email)
    assert buyer.standing() == ("free", "active", "free")
    tasks.sync_stripe()
    assert AuditEvent.objects.filter(action="billing.synced").count() == 2


def test_a_key_of_another_account_takes_nobodys_plan_away(buyer):
    buyer.buy("pro")
    buyer.account.subscriptions.clear()
    buyer.account.customers.clear()

    with pytest.raises(CommandError):
        call_command("sync_stripe")

    assert buyer.standing() == ("pro", "active", "pro")


@pytest.mark.parametrize(
    ("options", "message"), [({}, "has no keys for Stripe"), ({"user": "nobody@example.com"}, "There is no user")]
)
def test_sync_says_why_it_cannot(db, settings, options, message):
    settings.STRIPE_SECRET_KEY = "sk_test" if options else ""

    with pytest.raises(CommandError, match=message):
        call_command("sync_stripe", **options)


def test_many_subscriptions_are_read_page_by_page(double, monkeypatch):
    monkeypatch.setattr("quotas.stripe_api.PAGE", 2)
    customer = double.account.create_customer()["id"]
    for _ in range(5):
        double.account._begin(customer, "price_pro", 0, {})

    found = stripe_catchup.stripe_api.all_subscriptions()

    assert len({one.id for one in found}) == 5
    assert double.calls.count("GET /v1/subscriptions") == 3
