"""The table that turns errors into answers."""

from datetime import timedelta

import orjson
import pytest
from django.core.exceptions import BadRequest, PermissionDenied, RequestDataTooBig, ValidationError
from django.http import Http404
from django.test import RequestFactory
from django.utils import timezone
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
from config.errors import UNAVAILABLE, failure_of
from conversations.exceptions import (
    ChannelNotFound,
    ChannelOff,
    ClientMessageReused,
    ConversationNotFound,
    MessageNotFound,
    ReplyInProgress,
)
from inference.exceptions import (
    BodyTooLarge,
    InvalidJson,
    ModelNotFound,
    ServerStopping,
    UpstreamError,
    UpstreamRefused,
    UpstreamTimeout,
)
from prompts.exceptions import (
    EmbeddingUnavailable,
    ImportRefused,
    InvalidCursor,
    LabelNotFound,
    PromptNotFound,
    TemplateError,
    TemplateNotFound,
    VersionNotFound,
)
from quotas.exceptions import (
    AnswerNotKept,
    BillingNotConfigured,
    CheckoutInProgress,
    CustomerUnknown,
    IdempotencyKeyInUse,
    IdempotencyMismatch,
    KeyBudgetExceeded,
    PaymentFailed,
    QuotaExceeded,
    RateLimitExceeded,
    ReservationNotFound,
    ReservationNotHeld,
    StripeRefused,
    StripeUnavailable,
)
from quotas.meters import Meter


def subclasses(cls):
    for child in cls.__subclasses__():
        yield child
        yield from subclasses(child)


ANSWERS = [
    (InvalidInput(), 400, "invalid_request_error", "invalid_value"),
    (InvalidJson(), 400, "invalid_request_error", "invalid_json"),
    (BodyTooLarge(), 413, "invalid_request_error", "request_too_large"),
    (NotAuthenticated(), 401, "authentication_error", "invalid_api_key"),
    (NotAllowed(), 403, "permission_error", "permission_denied"),
    (NotFound(), 404, "not_found_error", "not_found"),
    (ModelNotFound("m"), 404, "not_found_error", "model_not_found"),
    (ReservationNotFound(), 404, "not_found_error", "not_found"),
    (ConversationNotFound(), 404, "not_found_error", "not_found"),
    (MessageNotFound(), 404, "not_found_error", "message_not_found"),
    (ClientMessageReused(), 409, "conflict_error", "client_message_id_reused"),
    (ReplyInProgress(), 409, "conflict_error", "reply_in_progress"),
    (ChannelNotFound(), 404, "not_found_error", "channel_not_found"),
    (ChannelOff("discord"), 403, "permission_error", "channel_off"),
    (TemplateNotFound(), 404, "not_found_error", "template_not_found"),
    (PromptNotFound(), 404, "not_found_error", "prompt_not_found"),
    (VersionNotFound(), 404, "not_found_error", "version_not_found"),
    (LabelNotFound(), 404, "not_found_error", "label_not_found"),
    (TemplateError(), 400, "invalid_request_error", "invalid_template"),
    (ImportRefused([], count=2), 400, "invalid_request_error", "import_refused"),
    (InvalidCursor(), 404, "not_found_error", "invalid_cursor"),
    (EmbeddingUnavailable(), 503, "api_error", "embedding_unavailable"),
    (Conflict(), 409, "conflict_error", "conflict"),
    (ReservationNotHeld(), 409, "conflict_error", "reservation_not_held"),
    (IdempotencyKeyInUse(), 409, "conflict_error", "idempotency_key_in_use"),
    (AnswerNotKept(), 409, "conflict_error", "idempotency_answer_not_kept"),
    (BillingNotConfigured(), 501, "api_error", "billing_not_configured"),
    (CheckoutInProgress(), 409, "conflict_error", "checkout_in_progress"),
    (StripeUnavailable(), 503, "api_error", "stripe_unavailable"),
    (StripeRefused(), 409, "conflict_error", "stripe_refused"),
    (CustomerUnknown(), 409, "conflict_error", "customer_unknown"),
    (PaymentFailed(), 402, "invalid_request_error", "payment_failed"),
    (IdempotencyMismatch(), 422, "invalid_request_error", "idempotency_key_reused"),
    (QuotaExceeded(), 429, "insufficient_quota", "insufficient_quota"),
    (KeyBudgetExceeded(), 429, "insufficient_quota", "insufficient_quota_of_key"),
    (TooManyAttempts(retry_after=60), 429, "rate_limit_error", "too_many_attempts"),
    (
        RateLimitExceeded(who="You", limit=5, unit="requests", window="a minute", retry_after=9),
        429,
        "rate_limit_error",
        "rate_limit_exceeded",
    ),
    (UpstreamError(), 502, "api_error", "upstream_error"),
    (ServerStopping(), 503, "api_error", "server_stopping"),
    (UpstreamTimeout(), 504, "api_error", "upstream_timeout"),
    (UpstreamRefused(400, "no", code=None, param=None), 400, "invalid_request_error", "upstream_refused"),
    (UpstreamRefused(422, "no", code="odd", param="n"), 422, "invalid_request_error", "odd"),
    (DomainError(), 400, "invalid_request_error", "error"),
    (TooManyRequests(retry_after=7), 429, "rate_limit_error", "rate_limit_exceeded"),
    (Http404(), 404, "not_found_error", "not_found"),
    (PermissionDenied(), 403, "permission_error", "permission_denied"),
    (RequestDataTooBig(), 413, "invalid_request_error", "request_too_large"),
    (BadRequest(), 400, "invalid_request_error", "bad_request"),
    (ValidationError("no"), 400, "invalid_request_error", "invalid_value"),
    (drf.NotAuthenticated(), 401, "authentication_error", "missing_credentials"),
    (drf.AuthenticationFailed(), 401, "authentication_error", "authentication_failed"),
    (drf.PermissionDenied(), 403, "permission_error", "permission_denied"),
    (drf.NotFound(), 404, "not_found_error", "not_found"),
    (drf.MethodNotAllowed("BREW"), 405, "invalid_request_error", "method_not_allowed"),
    (drf.NotAcceptable(), 406, "invalid_request_error", "not_acceptable"),
    (drf.UnsupportedMediaType("x"), 415, "invalid_request_error", "unsupported_media_type"),
    (drf.Throttled(), 429, "rate_limit_error", "throttled"),
    (drf.ParseError(), 400, "invalid_request_error", "parse_error"),
    (drf.APIException(), 500, "api_error", "error"),
]


@pytest.mark.parametrize(("error", "status", "type_", "code"), ANSWERS, ids=lambda value: type(value).__name__)
def test_an_error_and_its_answer(error, status, type_, code):
    failure = failure_of(error)

    assert (failure.status, failure.type, failure.code) == (status, type_, code)
    body = failure.body()["error"]
    assert body.keys() == {"message", "type", "param", "code"}
    assert body["message"]


def test_every_error_of_the_domain_is_in_the_table_above():
    assert {type(error) for error, *_ in ANSWERS} >= {DomainError, *subclasses(DomainError)}


def test_what_was_not_foreseen_is_left_to_django():
    for error in (ValueError("x"), KeyError("x"), RuntimeError()):
        assert failure_of(error) is None


def test_who_is_not_known_is_told_how_to_say_who_they_are():
    for error in (NotAuthenticated(), drf.NotAuthenticated()):
        assert failure_of(error).headers["WWW-Authenticate"].startswith("Bearer")
    assert not failure_of(drf.PermissionDenied()).headers


@pytest.mark.parametrize("seconds", [-100, 0, 0.2, 59.5, 3600])
def test_an_exhausted_quota_says_when_to_come_back(seconds):
    resets_at = timezone.now() + timedelta(seconds=seconds)
    headers = failure_of(QuotaExceeded(meter=Meter("llm", "tokens"), limit=5, resets_at=resets_at)).headers

    assert headers["x-should-retry"] == "false"
    assert max(1, seconds) <= int(headers["Retry-After"]) <= max(1, seconds + 1)
    assert headers["x-quota-reset"].endswith("Z")


def test_validation_errors_are_flattened_to_paths():
    detail = {
        "email": ["bad", drf.ErrorDetail("worse", code="worse")],
        "items": [{}, {"name": ["no"]}],
        "nested": {"inner": {"deep": ["x"]}},
        "non_field_errors": ["as a whole"],
    }
    failure = failure_of(drf.ValidationError(detail))

    found = [(error["param"], error["message"], error["code"]) for error in failure.errors]
    assert found == [
        ("email", "bad", "invalid"),
        ("email", "worse", "worse"),
        ("items.1.name", "no", "invalid"),
        ("nested.inner.deep", "x", "invalid"),
        (None, "as a whole", "invalid"),
    ]
    assert (failure.param, failure.message) == ("email", "bad")


@pytest.mark.parametrize("detail", ["plain", ["plain"], {"non_field_errors": ["plain"]}])
def test_a_validation_error_of_the_whole_has_no_param(detail):
    failure = failure_of(drf.ValidationError(detail))

    assert (failure.param, failure.message) == (None, "plain")


@pytest.mark.parametrize("detail", [[], {}, {"email": []}])
def test_a_validation_error_without_errors_is_still_an_answer(detail):
    failure = failure_of(drf.ValidationError(detail))

    assert failure.status == 400
    assert failure.body()["error"]["message"]


@pytest.mark.parametrize(
    ("failure", "number"),
    [(UNAVAILABLE, -32603), (failure_of(InvalidJson()), -32700), (failure_of(NotFound()), -32600)],
)
def test_clients_of_mcp_are_told_in_the_terms_of_json_rpc(failure, number):
    answer = failure.response(RequestFactory().post("/mcp"))

    assert answer.status_code == failure.status
    assert answer.headers.get("Retry-After") == (failure.headers or {}).get("Retry-After")
    told = orjson.loads(answer.content)
    assert (told["jsonrpc"], told["id"]) == ("2.0", None)
    assert told["error"] == {
        "code": number,
        "message": failure.message,
        "data": {"type": failure.type, "param": failure.param, "code": failure.code},
    }
    assert orjson.loads(failure.response(RequestFactory().post("/mcpx")).content) == failure.body()
