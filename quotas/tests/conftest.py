from collections.abc import Iterator
from typing import Any

import pytest

from quotas.stripe_double import StripeDouble
from quotas.tests.billing import PRICES, Buyer, sell_plans


@pytest.fixture
def double(settings: Any) -> Iterator[StripeDouble]:
    """Stripe, on this machine, with the plans pro and team to sell."""
    with StripeDouble() as double:
        settings.STRIPE_SECRET_KEY, settings.STRIPE_API_BASE = double.key, double.base
        settings.STRIPE_WEBHOOK_SECRETS = [double.webhook_secret]
        double.account.prices.update(PRICES.values())
        yield double


@pytest.fixture
def buyer(double: StripeDouble, alice: Any, api: Any) -> Buyer:
    """Alice, who can buy."""
    sell_plans()
    return Buyer(alice, api(alice), double)
