"""One page at a time on which a customer can buy: two open ones could both be paid, and make two subscriptions.

No transaction may wait for Stripe, so whoever opens a page claims the customer for a while instead. A claim that
runs out meanwhile does no harm: its holder looks after the page was made, and closes it if somebody else has come in
between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from django.db.models import Q

from accounts.exceptions import Conflict, DomainError
from quotas import stripe_api, stripe_sync
from quotas.exceptions import CheckoutInProgress
from quotas.models import StripeCustomer, Subscription
from quotas.stripe_api import CheckoutPage

# How long others are kept out if the process ends in the middle.
CLAIM = timedelta(seconds=60)


def open_page(*, customer_id: str, sell: Callable[[], CheckoutPage], check: Callable[[], None]) -> str:
    """The address of the page that `sell` makes; the customer's other pages, and what was never paid for, end before.

    `check` raises if the user may not buy, which can have come about while the page was made. `CheckoutInProgress` if
    another page is being opened, `Conflict` if Stripe knows of a purchase that was not written down here yet.
    """
    with _claimed(customer_id) as until:
        stripe_api.close_pages(customer_id)
        _end_unpaid(customer_id)
        page = sell()
        try:
            check()
            if not StripeCustomer.objects.filter(stripe_id=customer_id, busy_until=until).exists():
                raise CheckoutInProgress
        except DomainError:
            stripe_api.close_page(page.id)
            raise
        return page.url


def already_subscribed() -> Conflict:
    return Conflict("There is a subscription already: change its plan instead.", code="already_subscribed")


def _end_unpaid(customer_id: str) -> None:
    """End what waits for its first payment: that could still be made, beside the new purchase."""
    state = stripe_sync.read_customer(customer_id)
    if any(one.status != Subscription.Status.INCOMPLETE for one in state.live):
        stripe_sync.apply(state)
        raise already_subscribed()
    for one in state.live:
        stripe_api.cancel_now(one.id)


@contextmanager
def _claimed(customer_id: str) -> Iterator[datetime]:
    """Keep others from opening a page, until the moment given at most, which nobody else gets."""
    now = stripe_sync.database_clock()
    until = now + CLAIM
    StripeCustomer.objects.bulk_create([StripeCustomer(stripe_id=customer_id)], ignore_conflicts=True)
    customers = StripeCustomer.objects.filter(stripe_id=customer_id)
    if not customers.filter(Q(busy_until=None) | Q(busy_until__lte=now)).update(busy_until=until):
        raise CheckoutInProgress
    try:
        yield until
    finally:
        customers.filter(busy_until=until).update(busy_until=None)
