"""What happens around every request.

API requests (`/v1`, `/api`, `/mcp`) carry their own credentials: they pass the page layers (sessions, CSRF,
messages …) by, which spares them some sixteen hops between the event loop and threads.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import closing
from ipaddress import ip_address
from typing import Any

import structlog
from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.messages.middleware import MessageMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.http import HttpRequest, HttpResponse, HttpResponseForbidden, HttpResponseNotAllowed
from django.http.response import HttpResponseBase
from django.middleware.clickjacking import XFrameOptionsMiddleware
from django.middleware.csrf import CsrfViewMiddleware
from django.middleware.security import SecurityMiddleware
from whitenoise.middleware import WhiteNoiseMiddleware

from accounts.ids import uuid7
from config.errors import METHOD_NOT_ALLOWED, NOT_FOUND, failure_of, page_or_json

log = structlog.get_logger("mainstay.request")

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
API_PREFIXES = ("/v1/", "/api/v1/", "/mcp", "/healthz", "/readyz")


def is_api(request: HttpRequest) -> bool:
    return request.path_info.startswith(API_PREFIXES)


def client_ip(request: HttpRequest) -> str:
    """The address that rate limits and audit events go by (`TRUSTED_PROXIES` proxies are believed)."""
    forwarded = request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")
    hops = settings.TRUSTED_PROXIES
    if hops and len(forwarded) >= hops and _is_address(address := forwarded[-hops].strip()):
        return str(address)
    return str(request.META.get("REMOTE_ADDR") or "127.0.0.1")


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return "%" not in text


class RequestMiddleware:
    """The outermost layer: an id and one log line for each request."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        if self.is_async:
            return self.__acall__(request)
        begun = self.begin(request)
        response = self.refuse(request) or self.get_response(request)
        return self.end(request, response, begun)

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        begun = self.begin(request)
        response = self.refuse(request) or await self.get_response(request)
        return self.end(request, response, begun)

    def refuse(self, request: HttpRequest) -> HttpResponse | None:
        """PostgreSQL's texts cannot hold NUL, so no address that has one leads anywhere."""
        return page_or_json(request, NOT_FOUND) if "\0" in request.path_info else None

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """What views raise on purpose; the rest goes on to `config.errors.server_error`."""
        failure = failure_of(exception)
        return page_or_json(request, failure) if failure else None

    def begin(self, request: HttpRequest) -> float:
        given = request.headers.get("X-Request-ID", "")
        request.id = given if REQUEST_ID.fullmatch(given) else uuid7().hex  # type: ignore[attr-defined]
        structlog.contextvars.bind_contextvars(request_id=request.id)  # type: ignore[attr-defined]
        request.META["REMOTE_ADDR"] = client_ip(request)
        return time.perf_counter()

    def end(self, request: HttpRequest, response: HttpResponseBase, begun: float) -> HttpResponseBase:
        if response.status_code == 405 and isinstance(response, HttpResponseNotAllowed):
            response.content = METHOD_NOT_ALLOWED.response().content
            response.headers["Content-Type"] = "application/json"
        response.headers["X-Request-ID"] = request.id  # type: ignore[attr-defined]
        for name, value in getattr(request, "rate_headers", {}).items():
            response.headers[name] = value
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        log.info(
            "request",
            request_id=request.id,  # type: ignore[attr-defined]
            method=request.method,
            path=request.path_info,
            status=response.status_code,
            ms=round((time.perf_counter() - begun) * 1000, 1),
        )
        structlog.contextvars.clear_contextvars()
        return response


class PageOnly:
    """Mixin for a middleware class: API requests go straight to the next layer."""

    get_response: Callable[[HttpRequest], Any]

    def __call__(self, request: HttpRequest) -> Any:
        if is_api(request):
            return self.get_response(request)
        return super().__call__(request)  # type: ignore[misc]


class PageSecurityMiddleware(PageOnly, SecurityMiddleware):
    """Django's, and that no page asks for what none of them uses."""

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        response.headers.setdefault(
            "Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"
        )
        answer: HttpResponse = super().process_response(request, response)
        return answer


class PageSessionMiddleware(PageOnly, SessionMiddleware):
    pass


class PageAuthenticationMiddleware(PageOnly, AuthenticationMiddleware):
    pass


class PageMessageMiddleware(PageOnly, MessageMiddleware):
    pass


class PageFrameMiddleware(PageOnly, XFrameOptionsMiddleware):
    pass


class PageCsrfMiddleware(PageOnly, CsrfViewMiddleware):
    """Django calls `process_view` beside the chain, and sends a synchronous one to a thread: here it never waits."""

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        super().__init__(get_response)
        if iscoroutinefunction(get_response):
            self.process_view = self.process_view_async  # type: ignore[method-assign, assignment]

    def process_view(self, request: HttpRequest, *args: Any) -> HttpResponseForbidden | None:
        return None if is_api(request) else super().process_view(request, *args)

    async def process_view_async(self, request: HttpRequest, *args: Any) -> HttpResponseBase | None:
        return PageCsrfMiddleware.process_view(self, request, *args)


class PageStaticMiddleware:
    """WhiteNoise, which knows only the synchronous side, for both: its files are small enough to be sent whole."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self.files = WhiteNoiseMiddleware(lambda _request: HttpResponse())
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        if request.path_info.startswith(settings.STATIC_URL) and (found := self.files.files.get(request.path_info)):
            with closing(self.files.serve(found, request)) as response:
                content = b"".join(response)
            headers = dict(response.items()) | {"Content-Length": str(len(content))}
            whole = HttpResponse(content, status=response.status_code, headers=headers)
            return _resolved(whole) if iscoroutinefunction(self) else whole
        return self.get_response(request)


async def _resolved(response: HttpResponse) -> HttpResponse:
    return response
