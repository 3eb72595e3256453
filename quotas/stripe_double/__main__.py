"""python -m quotas.stripe_double [--port N] [--webhook URL] --price ID …"""

from __future__ import annotations

import argparse
import json
import queue
import sys

import requests

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
            try:
                answer = requests.post(webhook, payload, headers={"Stripe-Signature": signature}, timeout=30)
                print(event["type"], answer.status_code, json.dumps(answer.json()), flush=True)  # noqa: T201
            except requests.RequestException as error:
                print(event["type"], type(error).__name__, file=sys.stderr)  # noqa: T201


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
