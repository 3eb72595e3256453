from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, ClassVar
from uuid import UUID

import orjson
from django.db.models import QuerySet
from django.http import HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django_filters import rest_framework as filters
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, status, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.caller import Caller
from accounts.exceptions import NotFound
from accounts.ids import UUID_PATTERN, uuid7
from accounts.scopes import Scope
from accounts.views import caller_of, valid
from inference.background import in_thread
from inference.exceptions import UpstreamError
from inference.exchange import Exchange, begin
from inference.payloads import parse_object
from inference.replies import STREAM_HEADERS
from inference.views import json_response, openai_view
from prompts.enhance import history
from prompts.enhance.answers import answer_of, head_of
from prompts.enhance.drafting import draft, intent_as_given
from prompts.enhance.rewriting import Rewriting, open_rewriting, with_text
from prompts.enhance.wishes import Wish, wish_of
from prompts.enhance_serializers import (
    MOST_LISTED,
    FeedbackSerializer,
    HistorySerializer,
    ListedHistorySerializer,
    TechniqueSerializer,
)
from prompts.intents import classification
from prompts.intents.classification import NO_EMBEDDING, NO_QUOTA, Basis, Classification, Result
from prompts.models import PromptHistory, Technique
from prompts.models.history import PromptHistoryQuerySet
from prompts.models.templates import NAME_PATTERN
from quotas.exceptions import QuotaExceeded
from quotas.idempotency import JSON_HEADERS, Answer, Attempt, claimed, finish, look
from quotas.idempotency_views import attempt_of
from quotas.throttling import admitted_caller


@dataclass(frozen=True, slots=True)
class Asked:
    """Who wants what, and the intent, if it takes no call to know it."""

    caller: Caller
    attempt: Attempt | None
    wish: Wish
    basis: Basis | None
    found: Result | None


class Announced:
    """A stream of a model's, with an event of ours before it."""

    def __init__(self, announcement: bytes, exchange: Exchange) -> None:
        self.announcement: bytes | None = announcement
        self.exchange = exchange

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self.announcement is not None:
            first, self.announcement = self.announcement, None
            return first
        return await anext(self.exchange)

    def close(self) -> None:
        self.exchange.close()


@openai_view("POST", Scope.PROMPTS)
async def enhance(request: HttpRequest) -> HttpResponseBase:
    """A better prompt: techniques that work for its intent, applied by templates or, with `use_llm`, by a model."""
    asked = await in_thread(lambda: _asked(request))
    found = asked.found if asked.found is not None else await _classified(asked)
    if not asked.wish.use_llm:
        return json_response(await in_thread(lambda: _enhanced(asked, found)))
    exchange = await begin(lambda: _open_rewriting(asked, found))
    opened = exchange.opened
    assert isinstance(opened, Rewriting)
    if asked.wish.stream:
        await exchange.start()
        return StreamingHttpResponse(Announced(opened.announcement, exchange), headers=STREAM_HEADERS)
    await exchange.answer(with_text)
    return json_response(opened.answer)


def _asked(request: HttpRequest) -> Asked:
    caller = admitted_caller(request)
    payload = parse_object(request.body)
    attempt = attempt_of(request, payload)
    wish = wish_of(payload)
    look(user_id=caller.user_id, attempt=attempt)
    if wish.intent:
        return Asked(caller, attempt, wish, None, intent_as_given(wish.intent))
    basis = classification.current_basis()
    return Asked(caller, attempt, wish, basis, classification.without_call(wish.beginning, basis))


async def _classified(asked: Asked) -> Result:
    """By a vector that is made for it; where there is none to be had, by words."""
    basis, text = asked.basis, asked.wish.beginning
    assert basis is not None
    try:
        exchange = await begin(
            lambda: classification.open_classification(caller=asked.caller, text=text, basis=basis, claim=None)
        )
        await exchange.answer(classification.one_vector)
    except (UpstreamError, NotFound):
        return await in_thread(lambda: classification.by_words(text, basis, NO_EMBEDDING))
    except QuotaExceeded:
        return await in_thread(lambda: classification.by_words(text, basis, NO_QUOTA))
    opened = exchange.opened
    assert isinstance(opened, Classification)
    assert opened.result is not None
    return opened.result


def _enhanced(asked: Asked, found: Result) -> dict[str, Any]:
    """Without a model: one transaction."""
    made, history_id = draft(asked.wish, found), uuid7()
    answer = answer_of(head_of(history_id, made), made.text)
    user_id = asked.caller.user_id
    with claimed(user_id=user_id, attempt=asked.attempt) as claim:
        history.record(id=history_id, user_id=user_id, draft=made, enhanced=made.text)
        if claim is not None:
            finish(claim.id, Answer(200, JSON_HEADERS, orjson.dumps(answer)))
    return answer


def _open_rewriting(asked: Asked, found: Result) -> Rewriting:
    made = draft(asked.wish, found)
    with claimed(user_id=asked.caller.user_id, attempt=asked.attempt) as claim:
        return open_rewriting(caller=asked.caller, draft=made, claim=claim)


class TechniqueViewSet(mixins.RetrieveModelMixin, mixins.ListModelMixin, viewsets.GenericViewSet[Technique]):
    """Ways to ask that are in use. `position` says in which order they are applied."""

    scope = Scope.PROMPTS
    serializer_class = TechniqueSerializer
    queryset = Technique.objects.active().with_template()
    filterset_fields = ("group",)
    lookup_field = "slug"
    lookup_url_kwarg = "name"
    lookup_value_regex = NAME_PATTERN


class HistoryFilter(filters.FilterSet):  # type: ignore[misc]
    technique = filters.CharFilter(method="with_technique")
    created_after = filters.IsoDateTimeFilter(field_name="created_at", lookup_expr="gte")
    created_before = filters.IsoDateTimeFilter(field_name="created_at", lookup_expr="lt")

    class Meta:
        model = PromptHistory
        fields: ClassVar = ["intent", "rating", "thumbs", "used_it"]

    def with_technique(self, rows: PromptHistoryQuerySet, _name: str, value: str) -> PromptHistoryQuerySet:
        return rows.with_technique(value)


class HistoryViewSet(
    mixins.RetrieveModelMixin,
    mixins.ListModelMixin,
    viewsets.GenericViewSet[PromptHistory],
):
    """The caller's improved prompts, newest first."""

    scope = Scope.PROMPTS
    serializer_class = HistorySerializer
    queryset = PromptHistory.objects.none()
    filterset_class = HistoryFilter
    lookup_value_regex = UUID_PATTERN

    def get_queryset(self) -> QuerySet[PromptHistory]:
        rows = PromptHistory.objects.of_user(caller_of(self.request).user_id)
        return rows.beginnings(MOST_LISTED) if self.action == "list" else rows

    def get_serializer_class(self) -> type[HistorySerializer]:
        return ListedHistorySerializer if self.action == "list" else HistorySerializer

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, pk: str) -> Response:
        """With what was said of it: that does not count any more."""
        history.delete(history_id=UUID(pk), by=caller_of(request))
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(request=FeedbackSerializer, responses=HistorySerializer)
    @action(detail=True, methods=["post"])
    def feedback(self, request: Request, pk: str) -> Response:
        """How good the result was. The techniques of later prompts go by it; what is said again replaces what was."""
        said = valid(FeedbackSerializer, request)
        judged = history.give_feedback(history_id=UUID(pk), by=caller_of(request), **said)
        return Response(HistorySerializer(judged).data)
