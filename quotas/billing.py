"""Buying, changing and ending a plan: what users and operators ask for, here or at Stripe.

What Stripe sells is changed at Stripe, and then written down as Stripe says it is. Without keys for Stripe, all that
needs it raises `BillingNotConfigured`, and the rest works.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction

from accounts import audit
from accounts.caller import Caller
from accounts.exceptions import Conflict, InvalidInput, NotFound
from accounts.models import User
from quotas import checkouts, services, stripe_api, stripe_catchup, stripe_sync, subscriptions
from quotas.exceptions import BillingNotConfigured, CustomerUnknown, StripeRefused
from quotas.models import Plan, Subscription
from quotas.stripe_api import CheckoutPage, StripeSubscription

Status = Subscription.Status
By = Caller | User


def open_checkout(*, user_id: UUID, plan: Plan, by: By, success_url: str = "", cancel_url: str = "") -> str:
    """The address of the page at Stripe on which the user can buy `plan`.

    `InvalidInput` if the plan is not sold, or a page to return to is not one of ours; `Conflict` if the user has bought
    one already, or just does in another call. Who has never had a trial gets the plan's.
    """
    _check_configured()
    user = _user(user_id)
    price_id = _price_of(plan)
    success_url = checked_return(success_url, "success_url") or settings.BILLING_SUCCESS_URL
    cancel_url = checked_return(cancel_url, "cancel_url") or settings.BILLING_CANCEL_URL
    _check_bought_nothing(user_id)
    trial_days = 0 if Subscription.objects.filter(user=user).exclude(trial_end=None).exists() else plan.trial_days

    def checkout(customer_id: str) -> str:
        def sell() -> CheckoutPage:
            return stripe_api.create_checkout(
                customer_id=customer_id,
                user_id=user_id,
                price_id=price_id,
                trial_days=trial_days,
                success_url=success_url,
                cancel_url=cancel_url,
            )

        return checkouts.open_page(customer_id=customer_id, sell=sell, check=lambda: _check_bought_nothing(user_id))

    address = _as_customer(user, by, checkout)
    audit.record("billing.checkout_opened", by=by, target=user, plan=plan.slug, trial_days=trial_days)
    return address


def open_portal(*, user_id: UUID, by: By, return_url: str = "") -> str:
    """The address of the page at Stripe for cards, invoices and the subscription; `Conflict` for who never bought."""
    _check_configured()
    return_url = checked_return(return_url, "return_url") or settings.BILLING_RETURN_URL
    user, bought = _user(user_id), _sold(user_id)
    customer_id = bought.stripe_customer_id if bought else user.stripe_customer_id
    if not customer_id:
        raise Conflict("Nothing was bought yet.", code="no_customer")
    address = stripe_api.create_portal(customer_id=customer_id, return_url=return_url)
    audit.record("billing.portal_opened", by=by, target=user)
    return address


def is_for_sale(plan: Plan) -> bool:
    """Whether a checkout can be opened for it."""
    return plan.is_active and bool(plan.stripe_price_id) and stripe_api.is_configured()


def checked_return(address: str, param: str) -> str:
    """`address` if it is empty or a page of ours; `InvalidInput` if it would send people elsewhere."""
    if not address:
        return ""
    ours = (settings.BILLING_SUCCESS_URL, settings.BILLING_CANCEL_URL, settings.BILLING_RETURN_URL, settings.PUBLIC_URL)
    origins = {_origin(page) for page in ours} | set(settings.CORS_ALLOWED_ORIGINS)
    if _origin(address) not in origins:
        raise InvalidInput("People can only be sent back to a page of this product.", code="foreign_url", param=param)
    return address


# Changing ------------------------------------------------------------------------------------------------------------


def choose_plan(*, user_id: UUID, plan: Plan, by: By) -> None:
    """What a user does: a higher plan at once, a lower one when the period ends.

    To choose the plan that one has, calls off an end or a change that was planned. `Conflict` with the code same_plan,
    checkout_required if nothing was bought yet, or payment_due; `InvalidInput` if the plan is not for sale.
    """
    current = services.current_subscription(user_id=user_id)
    if current is None:
        raise NotFound("There is no plan.")
    if current.stripe_subscription_id is not None:
        is_rise = plan.position > current.plan.position or current.status == Status.TRIALING
        _change_at_stripe(current, plan, by=by, at_once=is_rise)
    elif plan.is_default or plan == current.plan:
        subscriptions.change_at_period_end(user_id=user_id, plan=plan, by=by)
    else:
        _price_of(plan)
        raise Conflict("This plan has to be bought first: open a checkout session.", code="checkout_required")


def change_plan(*, user_id: UUID, plan: Plan, by: By, at_once: bool = True, reason: str = "") -> Subscription | None:
    """What an operator does: any plan, at once or when the period ends. What Stripe sells is changed at Stripe.

    Answers what the user has then: from a trial at Stripe to the default plan, it takes until the trial's end.
    """
    sold = _sold(user_id)
    if sold is not None:
        _change_at_stripe(sold, plan, by=by, at_once=at_once, reason=reason)
    elif at_once:
        services.change_plan(user_id=user_id, plan=plan, by=by, reason=reason)
    else:
        subscriptions.change_at_period_end(user_id=user_id, plan=plan, by=by, reason=reason)
    return services.current_subscription(user_id=user_id)


def cancel(*, user_id: UUID, by: By, at_once: bool = False, reason: str = "") -> None:
    """End the subscription with its period, or at once; then the user is on the default plan."""
    sold = _sold(user_id)
    if sold is None:
        local = subscriptions.end_now if at_once else subscriptions.cancel
        local(user_id=user_id, by=by, reason=reason)
    elif at_once:
        if stripe_api.cancel_now(sold.stripe_subscription_id or ""):
            _write_down(sold, "billing.ended", by=by, reason=reason)
        else:
            _sync(sold)
    else:
        if sold.cancel_at_period_end:
            raise Conflict("The subscription ends with its period already.", code="already_canceled")
        stripe_api.cancel_at_period_end(_at_stripe(sold))
        _write_down(sold, "billing.cancel_planned", by=by, reason=reason)


def end_now(*, user_id: UUID, by: By, reason: str = "") -> bool:
    """What an operator does: end the subscription at once. What is sold at another account of Stripe's ends here alone.

    False if it is such a one: there, it goes on.
    """
    sold = _sold(user_id)
    try:
        cancel(user_id=user_id, by=by, at_once=True, reason=reason)
    except CustomerUnknown:
        if sold is None:
            raise
        subscriptions.end_unknown(sold=sold, by=by, reason=reason)
        return False
    return True


def resume(*, user_id: UUID, by: By, reason: str = "") -> None:
    """Call off what was planned for the end of the period; `Conflict` if nothing was."""
    sold = _sold(user_id)
    if sold is None:
        subscriptions.resume(user_id=user_id, by=by, reason=reason)
        return
    subscriptions.check_awaits_something(sold)
    found = _at_stripe(sold)
    stripe_api.drop_schedule(found)
    stripe_api.resume(found)
    _write_down(sold, "billing.resumed", by=by, reason=reason)


def _change_at_stripe(sold: Subscription, plan: Plan, *, by: By, at_once: bool, reason: str = "") -> None:
    if sold.status not in Subscription.IN_ORDER:
        raise Conflict("A payment is due: settle it first, in the customer portal.", code="payment_due")
    if plan == sold.plan:
        if not sold.awaits_something:
            raise subscriptions.same_plan(plan)
        resume(user_id=sold.user_id, by=by, reason=reason)
    elif plan.is_default and not plan.stripe_price_id:
        cancel(user_id=sold.user_id, by=by, at_once=at_once and sold.status != Status.TRIALING, reason=reason)
    elif at_once:
        stripe_api.change_price(_at_stripe(sold), _price_of(plan))
        _write_down(sold, "billing.plan_changed", by=by, plan=plan.slug, reason=reason)
    else:
        stripe_api.schedule_price(_at_stripe(sold), _price_of(plan))
        _write_down(sold, "billing.change_planned", by=by, plan=plan.slug, reason=reason)


def _at_stripe(sold: Subscription) -> StripeSubscription:
    for one in stripe_sync.read_customer(sold.stripe_customer_id).live:
        if one.id == sold.stripe_subscription_id:
            return one
    raise Conflict("This subscription has ended at Stripe.", code="subscription_ended")


def _write_down(sold: Subscription, action: str, *, by: By, **metadata: Any) -> None:
    """First who did it, which nobody else can tell us; then how it is now, which an event tells too if we fail."""
    audit.record(action, by=by, target=sold, **metadata)
    _sync(sold)


def _sync(sold: Subscription) -> None:
    stripe_sync.apply(stripe_sync.read_customer(sold.stripe_customer_id))
    stripe_catchup.look_elsewhere(sold.stripe_customer_id)


# Customers -----------------------------------------------------------------------------------------------------------


def _as_customer(user: User, by: By, work: Callable[[str], str]) -> str:
    """Do something as the user's customer at Stripe, who is made if there is none, or none any more."""
    known = user.stripe_customer_id or _make_customer(user, by, former=None)
    try:
        return work(known)
    except CustomerUnknown:
        return work(_make_customer(user, by, former=known))


def _make_customer(user: User, by: By, *, former: str | None) -> str:
    """A user has one customer: of two calls at once, one writes its own down, and the other takes that."""
    made = stripe_api.create_customer(user_id=user.pk, email=user.email or "", former=former or "")
    try:
        with transaction.atomic():
            mine = User.objects.filter(pk=user.pk, is_active=True, stripe_customer_id=former)
            if mine.update(stripe_customer_id=made):
                audit.record("billing.customer_made", by=by, target=user, customer=made, former=former)
    except IntegrityError as error:
        raise StripeRefused(f"Stripe has made the customer {made}, who is another user's here.") from error
    found = User.objects.filter(pk=user.pk).values_list("stripe_customer_id", flat=True).first()
    if not found:
        raise NotFound("No such user.")
    return found


def _check_configured() -> None:
    if not stripe_api.is_configured():
        raise BillingNotConfigured


def _user(user_id: UUID) -> User:
    user = User.objects.filter(pk=user_id, is_active=True).first()
    if user is None:
        raise NotFound("No such user.")
    return user


def _check_bought_nothing(user_id: UUID) -> None:
    _user(user_id)
    bought = _sold(user_id)
    if bought is not None and bought.status != Status.INCOMPLETE:
        raise checkouts.already_subscribed()


def _sold(user_id: UUID) -> Subscription | None:
    """The user's live subscription, if Stripe sells it."""
    live = Subscription.objects.live().filter(user_id=user_id).exclude(stripe_subscription_id=None)
    return live.select_related("plan", "next_plan").first()


def _price_of(plan: Plan) -> str:
    if not plan.stripe_price_id or not plan.is_active:
        raise InvalidInput(f"The plan {plan.slug} is not for sale.", code="plan_not_for_sale", param="plan")
    return plan.stripe_price_id


def _origin(address: str) -> str:
    """As browsers write it; empty for what is no address."""
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        return ""
    if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
        return ""
    default = 443 if parts.scheme == "https" else 80
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{port}" if port and port != default else "")
