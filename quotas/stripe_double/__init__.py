"""A stand-in for Stripe, for tests and for trying things out: its HTTP API, as far as `quotas.stripe_api` uses it.

It takes only the parameters, paths, version and key that it knows, and refuses all others as Stripe would; and it keeps
the rules that matter here: what a schedule forbids, what an idempotency key answers, what a failed payment leads to. A
month has 30 days, and its clock stands still until `advance` is called.

In tests: `with StripeDouble() as double:`, the settings STRIPE_API_BASE and STRIPE_SECRET_KEY as `double.base` and
`double.key`, and `double.account` for all that people and banks do. As a process: `python -m quotas.stripe_double`.
"""

from quotas.stripe_double.account import Account
from quotas.stripe_double.server import StripeDouble

__all__ = ["Account", "StripeDouble"]
