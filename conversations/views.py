from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.http import HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.utils import extend_schema
from rest_framework import viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer

from accounts.ids import UUID_PATTERN
from accounts.scopes import Scope
from accounts.views import caller_of
from conversations import services
from conversations.models import Conversation, Message
from conversations.serializers import ConversationSerializer, MessageSerializer
from conversations.services import Turn
from inference.exchange import begin
from inference.payloads import parse_object
from inference.replies import STREAM_HEADERS
from inference.views import json_response, openai_view
from quotas.idempotency import claimed
from quotas.idempotency_views import attempt_of
from quotas.throttling import admitted_caller


@openai_view("POST", Scope.INFERENCE)
async def chat_completions(request: HttpRequest) -> HttpResponseBase:
    exchange = await begin(lambda: _open_chat(request))
    if not exchange.call.is_stream:
        return json_response(await exchange.answer())
    await exchange.start()
    return StreamingHttpResponse(exchange, headers=STREAM_HEADERS)


def _open_chat(request: HttpRequest) -> Turn:
    caller = admitted_caller(request)
    payload = parse_object(request.body)
    conversation_id = request.headers.get("X-Conversation-ID")
    with claimed(user_id=caller.user_id, attempt=attempt_of(request, payload, conversation_id)) as claim:
        return services.open_chat(caller=caller, payload=payload, conversation_id=conversation_id, claim=claim)


class ConversationViewSet(viewsets.ModelViewSet[Conversation]):
    """The caller's conversations. A chat call is kept in one by `metadata.conversation_id`."""

    scope = Scope.CONVERSATIONS
    serializer_class = ConversationSerializer
    queryset = Conversation.objects.none()
    filterset_fields = ("channel", "is_active")
    lookup_value_regex = UUID_PATTERN

    def get_queryset(self) -> QuerySet[Conversation]:
        return Conversation.objects.filter(user_id=caller_of(self.request).user_id)

    def perform_create(self, serializer: BaseSerializer[Any]) -> None:
        serializer.save(user_id=caller_of(self.request).user_id)

    @extend_schema(responses=MessageSerializer(many=True))
    @action(detail=True, filterset_fields=(), serializer_class=MessageSerializer)
    def messages(self, request: Request, pk: UUID) -> Response:
        """What was said, newest first."""
        said: QuerySet[Any] = Message.objects.filter(conversation=self.get_object())
        page: list[Any] | None = self.paginate_queryset(said)
        return self.get_paginated_response(MessageSerializer(page or [], many=True).data)
