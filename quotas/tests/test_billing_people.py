"""What becomes of purchases, and of pages on which to buy, when users are erased or merged, or pay twice."""

from datetime import timedelta

import pytest
from django.core.management import call_command

from accounts import erasing
from accounts.merging import merge_users
from accounts.models import AuditEvent, User
from accounts.tests.factories import UserFactory
from quotas import stripe_api, tasks
from quotas.models import StripeCustomer, StripeEvent, Subscription
from quotas.tests.factories import SubscriptionFactory


def test_who_is_erased_does_not_go_on_paying(buyer, monkeypatch, django_capture_on_commit_callbacks):
    buyer.buy("pro")
    asked = []
    monkeypatch.setattr(tasks.leave_stripe, "apply_async", lambda args, **options: asked.append(args))

    with django_capture_on_commit_callbacks(execute=True):
        erasing.erase_user(user_id=buyer.user.pk, by=buyer.user)
    assert asked == [(buyer.customer_id,)]
    tasks.leave_stripe(*asked[0])

    assert [one["status"] for one in buyer.account.subscriptions.values()] == ["canceled"]
    buyer.hear()
    assert not Subscription.objects.live().filter(user=buyer.user).exists()


def test_what_was_sent_about_an_erased_user_is_blanked(buyer):
    buyer.buy("pro")

    erasing.erase_user(user_id=buyer.user.pk, by=buyer.user)

    payloads = StripeEvent.objects.filter(customer_id=buyer.customer_id).values_list("payload", flat=True)
    assert [payload for payload in payloads if payload] == []
    assert len(payloads) > 2


def test_a_page_of_somebody_erased_is_closed(buyer):
    session = buyer.checkout("pro")
    erasing.erase_user(user_id=buyer.user.pk, by=buyer.user)

    tasks.leave_stripe(buyer.customer_id)

    assert buyer.account.sessions[session]["status"] == "expired"


def test_a_purchase_of_somebody_erased_meanwhile_is_ended_when_it_is_heard_of(
    buyer, monkeypatch, django_capture_on_commit_callbacks
):
    session = buyer.checkout("pro")
    erasing.erase_user(user_id=buyer.user.pk, by=buyer.user)
    buyer.account.pay(session)
    asked = []
    monkeypatch.setattr(tasks.leave_stripe, "apply_async", lambda args, **options: asked.append(args))

    with django_capture_on_commit_callbacks(execute=True):
        buyer.hear()
    told = StripeEvent.objects.filter(customer_id=buyer.customer_id).values_list("reason", "payload")
    assert set(map(str, told)) == {"('The user was erased.', {})"}
    assert set(asked) == {(buyer.customer_id,)}
    tasks.leave_stripe(*asked[0])

    assert [one["status"] for one in buyer.account.subscriptions.values()] == ["canceled"]
    assert not Subscription.objects.live().filter(user=buyer.user).exists()


def test_a_purchase_of_somebody_erased_that_nobody_told_of_is_ended_by_the_daily_round(buyer):
    session = buyer.checkout("pro")
    erasing.erase_user(user_id=buyer.user.pk, by=buyer.user)
    buyer.account.pay(session)

    tasks.sync_stripe()

    assert [one["status"] for one in buyer.account.subscriptions.values()] == ["canceled"]


@pytest.mark.parametrize("payer_stays", [True, False])
def test_pages_of_merged_users_are_closed(buyer, olga, monkeypatch, django_capture_on_commit_callbacks, payer_stays):
    session, payer = buyer.checkout("pro"), UserFactory()
    SubscriptionFactory(user=payer, stripe_subscription_id="sub_1", stripe_customer_id="cus_payers")
    source, target = (buyer.user, payer) if payer_stays else (payer, buyer.user)
    asked = []
    monkeypatch.setattr(tasks.close_checkouts, "apply_async", lambda args, **options: asked.append(args))

    with django_capture_on_commit_callbacks(execute=True):
        merge_users(source_id=source.pk, target_id=target.pk, by=olga)
    assert sorted(asked) == sorted([(buyer.account.sessions[session]["customer"],), ("cus_payers",)])
    tasks.close_checkouts(buyer.account.sessions[session]["customer"])

    assert buyer.account.sessions[session]["status"] == "expired"


def test_who_pays_as_two_customers_keeps_what_was_there_first(buyer, olga):
    buyer.buy("pro")
    buyer.account.pay(_checkout_as_another(buyer))
    buyer.hear()

    assert buyer.standing() == ("pro", "active", "pro")
    told = StripeEvent.objects.filter(customer_id=buyer.customer_id, type="checkout.session.completed").get()
    assert told.reason.startswith("The user has another subscription, sub_")


def _checkout_as_another(buyer):
    """A page that was opened before, as a customer that the user was not yet."""
    other = stripe_api.create_customer(user_id=buyer.user.pk, email="", former="another")
    User.objects.filter(pk=buyer.user.pk).update(stripe_customer_id=other)
    page = stripe_api.create_checkout(
        customer_id=other,
        user_id=buyer.user.pk,
        price_id="price_team",
        trial_days=0,
        success_url="https://app.example",
        cancel_url="https://app.example",
    )
    return page.id


def test_a_purchase_follows_a_merge(buyer, olga):
    buyer.buy("pro")
    target = UserFactory()
    merge_users(source_id=buyer.user.pk, target_id=target.pk, by=olga)
    buyer.account.advance(days=31)
    buyer.hear()

    moved = Subscription.objects.live().get(user=target)
    assert (moved.plan.slug, moved.status) == ("pro", "active")
    assert StripeCustomer.objects.get().synced_at - moved.synced_at == timedelta(0)


def _paid_twice(buyer, olga):
    """Who pays for pro, after a merge with an alias who pays for team; with both subscriptions."""
    mine = buyer.buy("pro")
    alias = UserFactory()
    theirs = stripe_api.create_customer(user_id=alias.pk, email=alias.email)
    User.objects.filter(pk=alias.pk).update(stripe_customer_id=theirs)
    merge_users(source_id=alias.pk, target_id=buyer.user.pk, by=olga)
    return mine, buyer.account._begin(theirs, "price_team", 0, {})


def test_what_an_alias_pays_for_counts_when_ones_own_has_ended(buyer, olga):
    _paid_twice(buyer, olga)
    buyer.hear()
    assert buyer.standing() == ("pro", "active", "pro")

    answer = buyer.post("users/me/subscription/cancel", at_once=True)

    assert answer["plan"]["slug"] == "team"
    assert buyer.standing() == ("team", "active", "team")


@pytest.mark.parametrize("hear", [lambda buyer: buyer.hear(), lambda buyer: call_command("sync_stripe")])
def test_what_an_alias_pays_for_counts_when_stripe_has_ended_ones_own(buyer, olga, hear):
    mine, _theirs = _paid_twice(buyer, olga)
    buyer.hear()
    buyer.account.end(mine)

    hear(buyer)

    assert buyer.standing() == ("team", "active", "team")


def test_sync_of_one_user_finds_what_an_alias_pays_for(buyer, olga):
    mine, _theirs = _paid_twice(buyer, olga)
    buyer.account.end(mine)

    call_command("sync_stripe", user=buyer.user.email)

    assert buyer.standing() == ("team", "active", "team")


def test_two_subscriptions_are_noted_once_until_one_has_ended(buyer):
    buyer.buy("pro")
    second = buyer.account._begin(buyer.customer_id, "price_team", 0, {})
    buyer.hear()
    tasks.sync_stripe()
    noted = AuditEvent.objects.get(action="billing.two_subscriptions")
    assert noted.metadata["counted"] == second["id"]
    customer = StripeCustomer.objects.get(stripe_id=buyer.customer_id)
    assert customer.uncounted == noted.metadata["uncounted"] != []

    buyer.account.end(second)
    buyer.hear()

    customer.refresh_from_db()
    assert customer.uncounted == []


def test_what_is_another_users_here_is_left_to_them(buyer, olga):
    session = buyer.checkout("pro")
    bought = buyer.account.pay(session)
    other = SubscriptionFactory(stripe_subscription_id=bought["id"])

    buyer.hear()

    told = StripeEvent.objects.get(type="checkout.session.completed")
    assert told.reason == f"The subscription {bought['id']} is another user's here."
    assert not Subscription.objects.filter(user=buyer.user).exists()
    assert Subscription.objects.get(pk=other.pk).user_id == other.user_id
