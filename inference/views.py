from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import wraps
from typing import Any

import orjson
from django.db.models import Max, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.http.response import HttpResponseBase
from django.views.decorators.csrf import csrf_exempt
from rest_framework import mixins, viewsets

from accounts.exceptions import InvalidInput
from accounts.ids import UUID_PATTERN
from accounts.scopes import Scope
from accounts.views import caller_of
from inference import services
from inference.background import in_thread
from inference.exceptions import ModelNotFound
from inference.exchange import begin
from inference.filters import RequestFilter
from inference.models import Model, Request
from inference.payloads import parse_object
from inference.replies import with_encoding
from inference.serializers import RequestDetailSerializer, RequestSerializer
from inference.services import Call
from quotas.idempotency import JSON_HEADERS, AnsweredBefore, claimed
from quotas.idempotency_views import attempt_of, replay
from quotas.meters import Resource
from quotas.throttling import admitted_caller

AsyncView = Callable[..., Coroutine[Any, Any, HttpResponseBase]]


def openai_view(method: str, scope: Scope) -> Callable[[AsyncView], AsyncView]:
    """An asynchronous view of the OpenAI surface: one method, no cookies, so no CSRF.

    `admitted_caller` holds keys to the scope, and callers to their rate limits. What was answered before under an
    idempotency key is answered again.
    """

    def decorate(view: AsyncView) -> AsyncView:
        @csrf_exempt
        @wraps(view)
        async def wrapped(request: HttpRequest, **arguments: str) -> HttpResponseBase:
            if request.method != method:
                return HttpResponseNotAllowed([method])
            try:
                return await view(request, **arguments)
            except AnsweredBefore as before:
                return replay(before.answer)

        wrapped.scope = scope  # type: ignore[attr-defined]
        return wrapped

    return decorate


def json_response(value: Any) -> HttpResponse:
    return HttpResponse(orjson.dumps(value), headers=JSON_HEADERS)


@dataclass(frozen=True, slots=True)
class Plain:
    """A call that nothing but its own rows belongs to."""

    call: Call

    def settle(self) -> None:
        services.settle(self.call)


@openai_view("POST", Scope.INFERENCE)
async def embeddings(request: HttpRequest) -> HttpResponse:
    exchange = await begin(lambda: _open_embeddings(request))
    encoding = exchange.call.payload.get("encoding_format") or "float"
    return json_response(await exchange.answer(lambda value: with_encoding(value, encoding)))


def _open_embeddings(request: HttpRequest) -> Plain:
    caller = admitted_caller(request)
    payload = parse_object(request.body)
    check_embedding_input(payload)
    with claimed(user_id=caller.user_id, attempt=attempt_of(request, payload)) as claim:
        return Plain(services.open_call(caller=caller, kind=Resource.EMBEDDING, payload=payload, claim=claim))


def check_embedding_input(payload: dict[str, Any]) -> None:
    """A text, a list of texts, a list of tokens or a list of those; `InvalidInput` on anything else."""
    value = payload.get("input")
    rows = value if isinstance(value, list) else [value]
    texts = all(isinstance(row, str) for row in rows)
    tokens = all(isinstance(row, int) and not isinstance(row, bool) for row in rows)
    nested = all(isinstance(row, list) and row and all(isinstance(item, int) for item in row) for row in rows)
    if not rows or rows == [""] or not (texts or tokens or nested):
        raise InvalidInput("`input` must be a text, a list of texts, or lists of tokens.", param="input")
    if payload.get("encoding_format") not in (None, "float", "base64"):
        raise InvalidInput("`encoding_format` must be float or base64.", param="encoding_format")


@openai_view("GET", Scope.INFERENCE)
async def models(request: HttpRequest) -> HttpResponse:
    return json_response({"object": "list", "data": await in_thread(lambda: _models(request))})


@openai_view("GET", Scope.INFERENCE)
async def model(request: HttpRequest, name: str) -> HttpResponse:
    found = await in_thread(lambda: _models(request, name=name))
    if not found:
        raise ModelNotFound(name)
    return json_response(found[0])


def _models(request: HttpRequest, **only: str) -> list[dict[str, Any]]:
    admitted_caller(request)
    names = Model.objects.usable().select_related(None).filter(**only).order_by("name").values("name")
    return [
        {"id": row["name"], "object": "model", "created": int(row["since"].timestamp()), "owned_by": "mainstay"}
        for row in names.annotate(since=Max("created_at"))
    ]


class RequestViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[Request]):
    """The caller's request history, newest first."""

    scope = Scope.READ
    serializer_class = RequestSerializer
    queryset = Request.objects.none()
    filterset_class = RequestFilter
    lookup_value_regex = UUID_PATTERN

    def get_queryset(self) -> QuerySet[Request]:
        mine = Request.objects.filter(user_id=caller_of(self.request).user_id)
        return mine.defer("request_data", "response_data") if self.action == "list" else mine

    def get_serializer_class(self) -> type[RequestSerializer]:
        return RequestSerializer if self.action == "list" else RequestDetailSerializer
