"""Where requests meet the rate limits: once it is known who calls, and before anything is held, read or written."""

from __future__ import annotations

from typing import Any, cast

from django.conf import settings
from django.http import HttpRequest
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from accounts.authentication import client_ip, require_caller
from accounts.caller import Caller
from accounts.scopes import Scope
from quotas import rates
from quotas.rates import Decision, Subject
from quotas.windows import UNITS, RouteClass

CLASSES: dict[Scope | None, RouteClass] = {
    Scope.INFERENCE: RouteClass.INFERENCE,
    Scope.CONVERSATIONS: RouteClass.CONVERSATIONS,
    Scope.PROMPTS: RouteClass.PROMPTS,
}
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def admitted_caller(request: HttpRequest) -> Caller:
    """The caller of a plain view (`openai_view`), within its rate limits; else `RateLimitExceeded`.

    Raises what `require_caller` raises, before anything is counted.
    """
    caller = require_caller(request)
    assert request.resolver_match is not None
    scope: Scope = request.resolver_match.func.scope  # type: ignore[attr-defined]
    _admit(request, rates.subjects_of(caller, _class_of(scope)))
    return caller


class RateThrottle(BaseThrottle):
    """The default of every API view: limits of the caller's plan, or without a caller those of the address."""

    def allow_request(self, request: Request, view: Any) -> bool:
        caller = cast("Caller | None", request.user)
        if caller is None:
            rates.decide([_address(client_ip(request._request) or "")]).check()
        else:
            _admit(request._request, rates.subjects_of(caller, _class_of(getattr(view, "scope", None))))
        return True


def rate_headers(decision: Decision) -> dict[str, str]:
    """How the tightest windows of requests and of tokens stand."""
    headers = {}
    for unit in UNITS:
        window = decision.tightest(unit)
        if window is not None:
            headers[f"x-ratelimit-limit-{unit}"] = str(window.rate.limit)
            headers[f"x-ratelimit-remaining-{unit}"] = str(window.remaining)
            headers[f"x-ratelimit-reset-{unit}"] = duration(window.reset)
    return headers


def duration(milliseconds: int) -> str:
    """Whole seconds, rounded up, as OpenAI's headers write them: `0s`, `59s`, `6m0s`, `1h0m0s`."""
    minutes, seconds = divmod(-(-milliseconds // 1000), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{seconds}s"
    return f"{minutes}m{seconds}s" if minutes else f"{seconds}s"


def _admit(request: HttpRequest, subjects: list[Subject]) -> None:
    """`RateLimitExceeded` if there is no room; the headers go with whatever is answered (`RequestMiddleware`)."""
    decision = rates.decide(subjects)
    request.rate_headers = rate_headers(decision)  # type: ignore[attr-defined]
    decision.check()


def _class_of(scope: Scope | None) -> RouteClass:
    return CLASSES.get(scope, RouteClass.API)


def _address(ip: str) -> Subject:
    count, _, window = settings.RATELIMIT_ANONYMOUS.partition("/")
    return rates.subject_of_address(ip, requests=int(count), seconds=int(window[:-1] or 1) * SECONDS[window[-1]])
