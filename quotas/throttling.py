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
from quotas.admission import Admission
from quotas.rates import Decision
from quotas.windows import RouteClass

CLASSES: dict[Scope | None, RouteClass] = {
    Scope.INFERENCE: RouteClass.INFERENCE,
    Scope.CONVERSATIONS: RouteClass.CONVERSATIONS,
    Scope.PROMPTS: RouteClass.PROMPTS,
}
ANONYMOUS = "RATELIMIT_ANONYMOUS"
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def admitted_caller(request: HttpRequest) -> Caller:
    """The caller of a plain view (`openai_view`), within its rate limits; else `RateLimitExceeded`.

    Raises what `require_caller` raises, before anything is counted. A caller that this process knows costs one round
    trip to Redis in all.
    """
    assert request.resolver_match is not None
    scope: Scope = request.resolver_match.func.scope  # type: ignore[attr-defined]
    admission = Admission(_words(request, scope))
    caller = require_caller(request, read=admission.read)
    _admit(request, admission.decide(rates.subjects_of(caller, _class_of(scope))))
    return caller


def admit(request: HttpRequest, caller: Caller, route_class: RouteClass) -> None:
    """`RateLimitExceeded` unless a caller who is known already, such as a signed-in operator, may ask once more."""
    _admit(request, rates.decide(rates.subjects_of(caller, route_class)))


def admit_address(request: HttpRequest, *, rate: str = ANONYMOUS) -> None:
    """`RateLimitExceeded` unless this address may ask once more without credentials.

    `rate` names the setting that says how often; for each of them an address is counted by itself.
    """
    count, _, window = getattr(settings, rate).partition("/")
    seconds = int(window[:-1] or 1) * SECONDS[window[-1]]
    name = rate.removeprefix("RATELIMIT_").lower()
    subject = rates.subject_of_address(client_ip(request) or "", counter=name, requests=int(count), seconds=seconds)
    rates.decide((subject,)).check()


class RateThrottle(BaseThrottle):
    """The default of every API view: limits of the caller's plan, or without a caller those of the address.

    Where addresses may ask more often, or less, the view says `anonymous_rate = "RATELIMIT_…"`, a setting of its own.
    """

    def allow_request(self, request: Request, view: Any) -> bool:
        caller = cast("Caller | None", request.user)
        if caller is None:
            admit_address(request._request, rate=getattr(view, "anonymous_rate", ANONYMOUS))
        else:
            subjects = rates.subjects_of(caller, _class_of(getattr(view, "scope", None)))
            _admit(request._request, rates.decide(subjects))
        return True


def rate_headers(decision: Decision) -> dict[str, str]:
    """How the tightest windows of requests and of tokens stand."""
    headers = {}
    for unit, window in decision.tightest().items():
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


def _admit(request: HttpRequest, decision: Decision) -> None:
    """`RateLimitExceeded` if there is no room; the headers go with whatever is answered (`RequestMiddleware`)."""
    request.rate_headers = rate_headers(decision)  # type: ignore[attr-defined]
    decision.check()


def _class_of(scope: Scope | None) -> RouteClass:
    return CLASSES.get(scope, RouteClass.API)


def _words(request: HttpRequest, scope: Scope) -> str:
    """All that says who calls, and whether the view is for them. No header has a line break."""
    said = [request.META.get(name, "") for name in ("HTTP_X_API_KEY", "HTTP_AUTHORIZATION", "HTTP_X_ON_BEHALF_OF")]
    return "\n".join([str(request.method), scope, *said])
