"""What the endpoints of billing refuse, and how they speak to Stripe."""

import threading
from datetime import timedelta

import pytest
import stripe.params
from django.db import connection
from django.utils import timezone
from stripe.params import billing_portal, checkout

from accounts.exceptions import Conflict, NotFound
from accounts.models import User
from quotas import billing, stripe_api
from quotas.exceptions import CheckoutInProgress, PaymentFailed, StripeRefused
from quotas.models import Plan, StripeCustomer, Subscription
from quotas.stripe_double.account import Account
from quotas.stripe_double.routes import ROUTES
from quotas.tests.billing import WEBHOOK
from quotas.tests.factories import PlanFactory, SubscriptionFactory
from tests.shape import error_of

CHECKOUT, PORTAL = "/api/v1/billing/checkout-session", "/api/v1/billing/portal-session"
CHANGE, CANCEL, RESUME = (f"/api/v1/users/me/subscription/{name}" for name in ("change", "cancel", "resume"))


@pytest.mark.parametrize(("path", "body"), [(CHECKOUT, {"plan": "pro"}), (PORTAL, {}), (WEBHOOK, {})])
def test_without_keys_the_endpoints_say_so(api, alice, path, body):
    error = error_of(api(alice).post(path, body), 501)

    assert (error["type"], error["code"]) == ("api_error", "billing_not_configured")


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        (CHECKOUT, {}, 400, "required"),
        (CHECKOUT, {"plan": "none"}, 400, "does_not_exist"),
        (CHECKOUT, {"plan": "free"}, 400, "plan_not_for_sale"),
        (CHECKOUT, {"plan": "closed"}, 400, "plan_not_for_sale"),
        (CHECKOUT, {"plan": "pro", "success_url": "https://evil.example/"}, 400, "foreign_url"),
        (CHECKOUT, {"plan": "pro", "cancel_url": "https://app.example@evil.example/"}, 400, "foreign_url"),
        (CHECKOUT, {"plan": "pro", "cancel_url": "javascript:alert(1)"}, 400, "foreign_url"),
        (PORTAL, {"return_url": "https://app.example:99999/"}, 400, "foreign_url"),
        (PORTAL, {}, 409, "no_customer"),
        (CHANGE, {"plan": "free"}, 409, "same_plan"),
        (CHANGE, {"plan": "pro"}, 409, "checkout_required"),
        (CHANGE, {"plan": "given"}, 400, "plan_not_for_sale"),
        (CANCEL, {}, 409, "default_plan"),
        (CANCEL, {"at_once": True}, 409, "default_plan"),
        (RESUME, {}, 409, "nothing_to_resume"),
    ],
)
def test_what_who_has_bought_nothing_is_refused(buyer, settings, path, body, status, code):
    settings.CORS_ALLOWED_ORIGINS = ["https://app.example"]
    PlanFactory(slug="closed", stripe_price_id="price_closed", is_active=False)
    PlanFactory(slug="given", position=9)

    assert error_of(buyer.client.post(path, body), status)["code"] == code


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        (CHECKOUT, {"plan": "team"}, 409, "already_subscribed"),
        (CHANGE, {"plan": "pro"}, 409, "same_plan"),
        (CHANGE, {"plan": "given"}, 400, "plan_not_for_sale"),
        (CHANGE, {"plan": "unknown_price"}, 409, "stripe_refused"),
        (RESUME, {}, 409, "nothing_to_resume"),
    ],
)
def test_what_a_subscriber_is_refused(buyer, path, body, status, code):
    PlanFactory(slug="given", position=9)
    PlanFactory(slug="unknown_price", position=9, stripe_price_id="price_unknown")
    buyer.buy("pro")

    assert error_of(buyer.client.post(path, body), status)["code"] == code

    assert buyer.standing() == ("pro", "active", "pro")


def test_who_owes_a_payment_settles_it_first(buyer):
    buyer.buy("pro")
    buyer.account.break_card(buyer.customer_id)
    buyer.account.advance(days=31)
    buyer.hear()

    assert error_of(buyer.client.post(CHANGE, {"plan": "team"}), 409)["code"] == "payment_due"
    assert buyer.post("billing/portal-session", 201)["url"].endswith(buyer.customer_id)


def test_a_plan_is_bought_from_a_page_of_the_product(buyer, settings):
    settings.CORS_ALLOWED_ORIGINS = ["https://app.example"]
    there = {"success_url": "https://APP.example:443/done?s={CHECKOUT_SESSION_ID}", "cancel_url": settings.PUBLIC_URL}

    session = buyer.post("billing/checkout-session", 201, plan="pro", **there)["url"].rpartition("/")[2]

    made = buyer.account.sessions[session]
    assert {name: made[name] for name in there} == there
    assert made["client_reference_id"] == str(buyer.user.pk)


def test_a_second_page_closes_the_first_so_that_only_one_is_paid(buyer):
    first, second = buyer.checkout("pro"), buyer.checkout("team")

    assert [buyer.account.sessions[one]["status"] for one in (first, second)] == ["expired", "open"]


def test_a_downgrade_is_called_off_by_choosing_the_present_plan_or_by_a_cancellation(buyer):
    buyer.buy("team")
    buyer.post("users/me/subscription/change", plan="pro")

    assert buyer.post("users/me/subscription/change", plan="team")["next_plan"] is None
    buyer.post("users/me/subscription/change", plan="pro")
    canceled = buyer.post("users/me/subscription/cancel")
    assert (canceled["next_plan"], canceled["cancel_at_period_end"]) == (None, True)
    # The free plan has no price: to choose it is to cancel.
    assert error_of(buyer.client.post(CHANGE, {"plan": "free"}), 409)["code"] == "already_canceled"
    assert buyer.post("users/me/subscription/change", plan="team")["cancel_at_period_end"] is False
    assert buyer.post("users/me/subscription/change", plan="free")["cancel_at_period_end"] is True
    assert buyer.post("users/me/subscription/change", plan="pro")["next_plan"]["slug"] == "pro"


def test_when_stripe_is_down_nothing_changes_and_it_can_be_tried_again(buyer):
    buyer.buy("pro")
    buyer.double.is_down = True

    error = error_of(buyer.client.post(CHANGE, {"plan": "team"}), 503)

    assert error["code"] == "stripe_unavailable"
    assert buyer.standing() == ("pro", "active", "pro")
    buyer.double.is_down = False
    buyer.post("users/me/subscription/change", plan="team")
    assert buyer.standing() == ("team", "active", "team")


def test_a_wrong_key_is_our_fault_not_the_callers(buyer, settings):
    settings.STRIPE_SECRET_KEY = "sk_test_other"

    assert error_of(buyer.client.post(CHECKOUT, {"plan": "pro"}), 503)["code"] == "stripe_unavailable"


@pytest.mark.django_db(transaction=True)
def test_of_checkouts_at_once_one_page_is_open_and_one_customer_made(buyer):
    together, made = threading.Barrier(4), []

    def checkout():
        together.wait()
        plan = Plan.objects.get(slug="pro")
        try:
            made.append(billing.open_checkout(user_id=buyer.user.pk, plan=plan, by=buyer.user))
        except CheckoutInProgress as refusal:
            made.append(refusal.code)
        connection.close()

    threads = [threading.Thread(target=checkout) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(made) == 4
    assert [one["status"] for one in buyer.account.sessions.values()].count("open") == 1
    assert list(buyer.account.customers) == [buyer.customer_id]


def test_who_opens_a_page_keeps_others_out_until_the_claim_runs_out(buyer):
    buyer.checkout("pro")
    claims = StripeCustomer.objects.filter(stripe_id=buyer.customer_id)
    claims.update(busy_until=timezone.now() + timedelta(seconds=60))

    refused = buyer.client.post(CHECKOUT, {"plan": "pro"})
    assert (error_of(refused, 409)["code"], refused["Retry-After"]) == ("checkout_in_progress", "1")

    claims.update(busy_until=timezone.now())
    buyer.checkout("pro")
    assert claims.get().busy_until is None


@pytest.mark.parametrize(
    ("meanwhile", "refusal"),
    [
        (lambda buyer: StripeCustomer.objects.update(busy_until=timezone.now()), CheckoutInProgress),
        (lambda buyer: User.objects.filter(pk=buyer.user.pk).update(is_active=False), NotFound),
        (lambda buyer: SubscriptionFactory(user=buyer.user, stripe_subscription_id="sub_1"), Conflict),
    ],
)
def test_a_page_that_must_not_be_any_more_when_it_is_made_is_closed(buyer, monkeypatch, meanwhile, refusal):
    create = stripe_api.create_checkout

    def slow(**terms):
        meanwhile(buyer)
        return create(**terms)

    monkeypatch.setattr(stripe_api, "create_checkout", slow)
    with pytest.raises(refusal):
        billing.open_checkout(user_id=buyer.user.pk, plan=Plan.objects.get(slug="pro"), by=buyer.user)

    assert [one["status"] for one in buyer.account.sessions.values()] == ["expired"]


def test_who_has_paid_and_was_not_heard_of_yet_cannot_buy_twice(buyer):
    buyer.account.pay(buyer.checkout("pro"))

    assert error_of(buyer.client.post(CHECKOUT, {"plan": "pro"}), 409)["code"] == "already_subscribed"
    assert buyer.standing() == ("pro", "active", "pro")


def test_a_first_payment_that_failed_cannot_be_made_any_more_beside_a_second_purchase(buyer):
    session = buyer.checkout("pro")
    buyer.account.break_card(buyer.customer_id)
    first = buyer.account.pay(session)
    buyer.hear()
    assert buyer.subscription.status == "incomplete"

    second = buyer.checkout("team")
    buyer.account.mend_card(buyer.customer_id)
    buyer.account.pay(second)
    buyer.hear()

    assert first["status"] == "canceled"
    assert buyer.standing() == ("team", "active", "team")


def test_a_customer_of_another_account_is_made_anew(buyer):
    User.objects.filter(pk=buyer.user.pk).update(stripe_customer_id="cus_of_the_test_account")

    buyer.buy("pro")

    assert buyer.customer_id in buyer.account.customers
    assert buyer.standing() == ("pro", "active", "pro")


def test_what_stripe_sells_is_not_changed_behind_its_back(buyer, olga):
    buyer.buy("pro")
    services = billing.services

    with pytest.raises(Conflict, match="sold by Stripe"):
        services.change_plan(user_id=buyer.user.pk, plan=Plan.objects.get(slug="team"), by=olga)
    assert Subscription.objects.live().get(user=buyer.user).plan.slug == "pro"


def test_a_customer_who_is_another_users_is_refused_in_words(buyer, bob):
    made = buyer.account.create_customer()
    User.objects.filter(pk=bob.pk).update(stripe_customer_id=made["id"])
    buyer.account.create_customer = lambda *_args: made

    error = error_of(buyer.client.post(CHECKOUT, {"plan": "pro"}), 409)

    assert (error["code"], made["id"] in error["message"]) == ("stripe_refused", True)


# The double ----------------------------------------------------------------------------------------------------------

PARAMS = {
    "POST /v1/customers": stripe.params.CustomerCreateParams,
    "GET /v1/customers/{id}": stripe.params.CustomerRetrieveParams,
    "POST /v1/checkout/sessions": checkout.SessionCreateParams,
    "GET /v1/checkout/sessions": checkout.SessionListParams,
    "POST /v1/checkout/sessions/{id}/expire": checkout.SessionExpireParams,
    "POST /v1/billing_portal/sessions": billing_portal.SessionCreateParams,
    "GET /v1/subscriptions": stripe.params.SubscriptionListParams,
    "POST /v1/subscriptions/{id}": stripe.params.SubscriptionUpdateParams,
    "DELETE /v1/subscriptions/{id}": stripe.params.SubscriptionCancelParams,
    "POST /v1/subscription_schedules": stripe.params.SubscriptionScheduleCreateParams,
    "POST /v1/subscription_schedules/{id}": stripe.params.SubscriptionScheduleUpdateParams,
    "POST /v1/subscription_schedules/{id}/release": stripe.params.SubscriptionScheduleReleaseParams,
    "GET /v1/invoices": stripe.params.InvoiceListParams,
}


def test_the_double_takes_only_what_the_sdk_can_send():
    assert {f"{route.method} {route.path}" for route in ROUTES} == set(PARAMS)
    for route in ROUTES:
        known = PARAMS[f"{route.method} {route.path}"].__annotations__
        assert {name.partition("[")[0] for name in route.accepts} <= set(known), route.path


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.v1.customers.create({"email": "a@example.com", "phone": "1"}),
        lambda client: client.v1.subscriptions.list({"status": "all", "expand": ["data.latest_invoice"]}),
        lambda client: client.v1.subscriptions.retrieve("sub_1"),
        lambda client: client.v1.products.list(),
        lambda client: client.v1.subscriptions.update("sub_none", {"cancel_at_period_end": True}),
        lambda client: client.v1.customers.create({}, {"stripe_version": "2024-06-20"}),
    ],
)
def test_the_double_refuses_what_it_does_not_know(double, call):
    with pytest.raises(StripeRefused), stripe_api._calling():
        call(stripe_api._client())


def test_a_card_that_is_declined_is_no_fault_of_stripes():
    with pytest.raises(PaymentFailed, match="Declined"), stripe_api._calling():
        raise stripe.CardError("Declined.", None, "card_declined")


def test_an_idempotency_key_answers_once_and_for_the_same_alone(double):
    client = stripe_api._client()
    first, again = (client.v1.customers.create({"email": "a@x.com"}, {"idempotency_key": "k"}) for _ in range(2))

    assert first.id == again.id
    with pytest.raises(StripeRefused), stripe_api._calling():
        client.v1.customers.create({"email": "b@x.com"}, {"idempotency_key": "k"})


def test_a_double_gives_other_ids_than_one_before_it():
    first, second = (Account(version="", secret="").create_customer() for _ in range(2))

    assert first["id"] != second["id"]


# What the product is told --------------------------------------------------------------------------------------------


def test_which_plans_can_be_bought_is_told_without_their_prices(buyer, settings):
    def for_sale():
        answer = buyer.client.get("/api/v1/plans")
        assert "price_" not in answer.content.decode()
        return {plan["slug"] for plan in answer.json() if plan["is_for_sale"]}

    assert for_sale() == {"pro", "team"}
    settings.STRIPE_SECRET_KEY = ""
    assert for_sale() == set()


def test_a_subscription_says_who_sells_it(buyer):
    buyer.buy("pro")

    assert buyer.client.get("/api/v1/users/me/subscription").json()["sold_by"] == "stripe"
