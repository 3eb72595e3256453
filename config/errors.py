"""The one error shape, and the one table that turns domain errors into answers.

`{"error": {"message", "type", "param", "code"}}` is what OpenAI's clients parse, so both surfaces speak it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import structlog
from django.core.exceptions import BadRequest, PermissionDenied, RequestDataTooBig, ValidationError
from django.db import IntegrityError, InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from redis import RedisError
from rest_framework import exceptions as drf

from accounts.exceptions import (
    Conflict,
    DomainError,
    InvalidInput,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    TooManyAttempts,
    TooManyRequests,
)
from conversations.exceptions import ReplyInProgress
from inference.exceptions import (
    BodyTooLarge,
    InvalidJson,
    ServerStopping,
    UpstreamError,
    UpstreamRefused,
    UpstreamTimeout,
)
from prompts.exceptions import EmbeddingUnavailable, ImportRefused
from prompts.mcp.protocol import INTERNAL_ERROR, INVALID_REQUEST, PARSE_ERROR, ProtocolError
from quotas.exceptions import (
    AnswerNotKept,
    BillingNotConfigured,
    CheckoutInProgress,
    IdempotencyKeyInUse,
    IdempotencyMismatch,
    PaymentFailed,
    QuotaExceeded,
    StripeUnavailable,
)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Failure:
    """An error answer before it is bytes."""

    status: int
    type: str
    code: str
    message: str
    param: str | None = None
    errors: tuple[Mapping[str, str | int | None], ...] = ()
    headers: Mapping[str, str] | None = None
    text: str = ""

    def body(self) -> dict[str, Any]:
        error: dict[str, Any] = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        if self.errors:
            error["errors"] = list(self.errors)
        if self.text:
            error["text"] = self.text
        return {"error": error}

    def rpc_body(self) -> dict[str, Any]:
        """As JSON-RPC says it, for a request that was not read so far that its id would be known."""
        number = INTERNAL_ERROR if self.status >= 500 else INVALID_REQUEST
        data = {"type": self.type, "param": self.param, "code": self.code}
        return ProtocolError(PARSE_ERROR if self.code == InvalidJson.code else number, self.message, data).body(None)

    def response(self, request: HttpRequest | None = None) -> HttpResponse:
        """In the one shape, or where MCP is spoken, in JSON-RPC's: its clients show no other."""
        is_rpc = request is not None and request.path_info.rstrip("/") == "/mcp"
        body = self.rpc_body() if is_rpc else self.body()
        return HttpResponse(
            orjson.dumps(body), status=self.status, content_type="application/json", headers=self.headers
        )


# The first class that an error is an instance of decides.
DOMAIN_ERRORS: tuple[tuple[type[DomainError], int, str], ...] = (
    (QuotaExceeded, 429, "insufficient_quota"),
    (TooManyAttempts, 429, "rate_limit_error"),
    (TooManyRequests, 429, "rate_limit_error"),
    (NotAuthenticated, 401, "authentication_error"),
    (NotAllowed, 403, "permission_error"),
    (NotFound, 404, "not_found_error"),
    (IdempotencyMismatch, 422, "invalid_request_error"),
    (PaymentFailed, 402, "invalid_request_error"),
    (Conflict, 409, "conflict_error"),
    (BodyTooLarge, 413, "invalid_request_error"),
    (InvalidInput, 400, "invalid_request_error"),
    # Not 503: that would tell clients to try again.
    (BillingNotConfigured, 501, "api_error"),
    (StripeUnavailable, 503, "api_error"),
    (ServerStopping, 503, "api_error"),
    (EmbeddingUnavailable, 503, "api_error"),
    (UpstreamTimeout, 504, "api_error"),
    (UpstreamError, 502, "api_error"),
    (DomainError, 400, "invalid_request_error"),
)

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    429: "rate_limit_error",
}

CODES = {400: "bad_request", 403: "permission_denied", 404: "not_found", 405: "method_not_allowed"}


def failure_of(error: Exception) -> Failure | None:
    """How `error` is answered; None if it is none of the errors that were foreseen."""
    if isinstance(error, UpstreamRefused):
        return Failure(
            error.status, TYPES.get(error.status, "invalid_request_error"), error.code, str(error), error.param
        )
    if isinstance(error, DomainError):
        status, type_ = next((status, type_) for cls, status, type_ in DOMAIN_ERRORS if isinstance(error, cls))
        errors = error.errors if isinstance(error, ImportRefused) else ()
        return Failure(status, type_, error.code, str(error), error.param, errors, _headers(error), error.text)
    if isinstance(error, drf.APIException):
        return _failure_of_drf(error)
    if isinstance(error, RedisError):
        log.error("redis_unavailable", exc_info=error)
        return NO_SESSIONS
    if isinstance(error, OperationalError | InterfaceError):
        log.error("database_unavailable", exc_info=error)
        return UNAVAILABLE
    if isinstance(error, IntegrityError) and _constraint(error) == "user_not_erased":
        return failure_of(NotAuthenticated("This account was erased."))
    if isinstance(error, ValidationError):
        # Values that serializers and filters do not look at, such as the position in a cursor.
        return Failure(400, "invalid_request_error", "invalid_value", " ".join(error.messages))
    if isinstance(error, BadRequest):
        return Failure(400, "invalid_request_error", "bad_request", str(error) or "The request cannot be read.")
    return next((failure for cls, failure in FIXED if isinstance(error, cls)), None)


def _constraint(error: IntegrityError) -> str | None:
    """Which rule of the database refused."""
    return getattr(getattr(error.__cause__, "diag", None), "constraint_name", None)


def exception_handler(error: Exception, _context: Mapping[str, Any]) -> HttpResponse | None:
    """DRF's side; what it does not know goes on to Django, and so to `server_error`.

    No `Response` of DRF: that would be rendered as the view's answers are, which is YAML at `/api/schema`.
    """
    failure = failure_of(error)
    return failure.response() if failure else None


NOTHING_NAMED = {"param": None, "message": "The request is not valid.", "code": "invalid"}
UNAVAILABLE = Failure(
    503, "api_error", "service_unavailable", "The database is not available. Try again.", headers={"Retry-After": "2"}
)
NO_SESSIONS = Failure(
    503, "api_error", "service_unavailable", "Redis is not available. Try again.", headers={"Retry-After": "2"}
)
INTERNAL = Failure(500, "api_error", "internal_error", "Something went wrong on our side. The request id names it.")
NOT_FOUND = Failure(404, TYPES[404], CODES[404], "There is nothing at this address.")
METHOD_NOT_ALLOWED = Failure(405, TYPES[400], CODES[405], "This address does not take that method.")
TOO_LARGE = Failure(413, TYPES[400], BodyTooLarge.code, BodyTooLarge.message)

# Errors that are not ours and carry nothing that callers should read.
FIXED: tuple[tuple[type[Exception], Failure], ...] = (
    (Http404, NOT_FOUND),
    (PermissionDenied, Failure(403, TYPES[403], CODES[403], "This credential may not do that.")),
    (RequestDataTooBig, TOO_LARGE),
)


def _headers(error: DomainError) -> dict[str, str] | None:
    if isinstance(error, QuotaExceeded):
        headers = {"x-should-retry": "false"}
        if error.resets_at is not None:
            headers["x-quota-reset"] = error.resets_at.isoformat().replace("+00:00", "Z")
            if error.fits_ever:
                headers["Retry-After"] = str(max(1, int((error.resets_at - timezone.now()).total_seconds()) + 1))
        return headers
    if isinstance(error, TooManyAttempts | TooManyRequests):
        return {"Retry-After": str(error.retry_after)}
    if isinstance(error, IdempotencyKeyInUse | CheckoutInProgress | ReplyInProgress):
        return {"Retry-After": "1"}
    if isinstance(error, AnswerNotKept):
        return {"x-should-retry": "false"}
    if isinstance(error, NotAuthenticated):
        return {"WWW-Authenticate": 'Bearer realm="mainstay"'}
    return None


def _failure_of_drf(error: drf.APIException) -> Failure:
    type_ = TYPES.get(error.status_code, "invalid_request_error" if error.status_code < 500 else "api_error")
    headers: dict[str, str] = {}
    if isinstance(error, drf.MethodNotAllowed | drf.NotAuthenticated | drf.AuthenticationFailed):
        headers = {"WWW-Authenticate": 'Bearer realm="mainstay"'} if error.status_code == 401 else {}
    if isinstance(error, drf.ValidationError):
        errors = tuple(_validation_errors(error.detail)) or (NOTHING_NAMED,)
        first = errors[0]
        return Failure(400, type_, str(first["code"]), str(first["message"]), first["param"], errors)
    code = error.get_codes()
    if isinstance(error, drf.NotAuthenticated):
        code = "missing_credentials"
    return Failure(error.status_code, type_, str(code), str(error.detail), headers=headers)


def _validation_errors(detail: Any, path: str = "") -> Iterator[dict[str, str | None]]:
    if isinstance(detail, Mapping):
        for name, value in detail.items():
            own = "" if name == "non_field_errors" else str(name)
            yield from _validation_errors(value, ".".join(filter(None, (path, own))))
    elif isinstance(detail, list):
        for index, value in enumerate(detail):
            nested = ".".join(filter(None, (path, str(index)))) if isinstance(value, Mapping) else path
            yield from _validation_errors(value, nested)
    else:
        yield {"param": path or None, "message": str(detail), "code": getattr(detail, "code", "invalid")}


# Django's own error handlers (config/urls.py): pages for people at the admin, the one shape for everybody else.


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return page_or_json(request, Failure(400, TYPES[400], CODES[400], "The request cannot be read."))


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    return page_or_json(request, Failure(403, TYPES[403], CODES[403], "You may not do that."))


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return page_or_json(request, NOT_FOUND)


def server_error(request: HttpRequest) -> HttpResponse:
    return page_or_json(request, INTERNAL)


def page_or_json(request: HttpRequest, failure: Failure) -> HttpResponse:
    """A page for people at the admin, the one shape for everybody else, and for scripts that ask for it there."""
    if request.path.startswith("/admin") and request.accepts("text/html"):
        return render(request, "error.html", {"failure": failure}, status=failure.status)
    return failure.response(request)
