"""The double's HTTP server, in a thread of its own."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from quotas.stripe_api import API_VERSION
from quotas.stripe_double.account import Account, Refused, Thing, public
from quotas.stripe_double.routes import ROUTES, read_params

Answer = tuple[int, Thing]


class StripeDouble:
    """Stripe on a port of this machine. `calls` lists what was asked, as method and path."""

    key = "sk_test_double"
    webhook_secret = "whsec_double"  # noqa: S105 - of the double

    def __init__(self, *, port: int = 0) -> None:
        self.account = Account(version=API_VERSION, secret=self.webhook_secret)
        self.calls: list[str] = []
        self.is_down = False
        self._remembered: dict[str, tuple[str, Answer]] = {}
        # Of the account: one thing happens at a time.
        self.lock = threading.RLock()
        double = self

        class Handler(_Handler):
            stripe = double

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.base = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> StripeDouble:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), name="stripe-double")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, method: str, path: str, query: str, body: str, headers: Any) -> Answer:
        """What Stripe would say."""
        with self.lock:
            self.calls.append(f"{method} {path}")
            if self.is_down:
                return 503, {"error": {"type": "api_error", "message": "Stripe is down."}}
            try:
                self._check(headers)
                return self._once(headers.get("Idempotency-Key") or "", method, path, query, body)
            except Refused as refusal:
                return refusal.status, {"error": refusal.body}

    def _check(self, headers: Any) -> None:
        if headers.get("Authorization") != f"Bearer {self.key}":
            raise Refused("Invalid API Key provided.", status=401)
        if headers.get("Stripe-Version") != API_VERSION:
            raise Refused("This is another version of the API.", param="Stripe-Version")

    def _once(self, key: str, method: str, path: str, query: str, body: str) -> Answer:
        """A call with a known idempotency key is answered as before, and changes nothing."""
        if method != "POST":
            return self._route(method, path, query)
        if not key:
            raise Refused("A POST without an idempotency key could be repeated.", param="Idempotency-Key")
        asked = f"{path}?{body}"
        before = self._remembered.get(key)
        if before is not None and before[0] != asked:
            raise Refused("Keys for idempotent requests can only be used with the same parameters.", status=400)
        if before is None:
            self._remembered[key] = before = (asked, self._route(method, path, body))
        return before[1]

    def _route(self, method: str, path: str, sent: str) -> Answer:
        for route in ROUTES:
            named = route.matches(method, path)
            if named is not None:
                thing = public(route.answer(self.account, read_params(sent, route.accepts), named))
                if thing["object"] == "checkout.session":
                    thing["url"] = f"{self.base}/pay/{thing['id']}" if thing["status"] == "open" else None
                return 200, thing
        raise Refused(f"Unrecognized request URL ({method}: {path}).", status=404)


class _Handler(BaseHTTPRequestHandler):
    stripe: StripeDouble
    protocol_version = "HTTP/1.1"
    # An answer is sent as one piece, and at once.
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        if self.path.startswith("/pay/"):
            self._pay(self.path.removeprefix("/pay/"))
        else:
            self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_DELETE(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: tests read answers."""

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        status, thing = self.stripe.answer(self.command, parts.path, parts.query, body, self.headers)
        content = json.dumps(thing).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        # A test has no time for second attempts.
        self.send_header("Stripe-Should-Retry", "false")
        self.end_headers()
        self.wfile.write(content)

    def _pay(self, session_id: str) -> None:
        """Opening the page pays, and leads back to the product."""
        with self.stripe.lock:
            try:
                self.stripe.account.pay(session_id)
                target = self.stripe.account.sessions[session_id]["success_url"]
                self.send_response(303)
                self.send_header("Location", target)
            except Refused as refusal:
                self.send_response(refusal.status)
        self.send_header("Content-Length", "0")
        self.end_headers()
