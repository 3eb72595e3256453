"""python -m quotas.stripe_double [--port N] [--webhook URL] --price ID …"""

from __future__ import annotations

import argparse
import queue
import sys
from urllib.request import Request, urlopen

from quotas.stripe_double import StripeDouble
from quotas.stripe_double.account import Thing


def serve(port: int, webhook: str, prices: list[str]) -> None:
    """Serve until Ctrl-C. Events go to the webhook one by one."""
    waiting: queue.Queue[Thing] = queue.Queue()
    with StripeDouble(port=port) as double:
        double.account.prices.update(prices)
        double.account.deliver = waiting.put
        print(f"STRIPE_API_BASE={double.base}", f"STRIPE_SECRET_KEY={double.key}", sep="\n")  # noqa: T201
        print(f"STRIPE_WEBHOOK_SECRET={double.webhook_secret}", flush=True)  # noqa: T201
        while True:
            event = waiting.get()
            payload, signature = double.account.signed(event)
            headers = {"Stripe-Signature": signature, "Content-Type": "application/json"}
            try:
                with urlopen(Request(webhook, payload, headers), timeout=30) as answer:  # noqa: S310 - of whoever started us
                    print(event["type"], answer.status, answer.read().decode(), flush=True)  # noqa: T201
            except OSError as error:
                print(event["type"], error, file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Stand in for Stripe until Ctrl-C, and post events to a webhook.")
    parser.add_argument("--port", type=int, default=12111, help="default: 12111")
    parser.add_argument("--webhook", default="http://127.0.0.1:8000/api/v1/billing/webhook", help="where events go")
    parser.add_argument("--price", action="append", required=True, help="the id of a price; may be repeated")
    arguments = parser.parse_args()
    try:
        serve(arguments.port, arguments.webhook, arguments.price)
    except KeyboardInterrupt:
        sys.exit(0)
