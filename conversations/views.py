from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import orjson
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import mixins, status, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param

from accounts.exceptions import DomainError
from accounts.ids import UUID_PATTERN
from accounts.people import HEADER
from accounts.scopes import Scope
from accounts.views import caller_of, valid
from conversations import answers, channel_messages, channels, lifecycle, replies, services, threads
from conversations.exceptions import MessageNotFound
from conversations.filters import ConversationFilter
from conversations.models import Conversation, Message
from conversations.pagination import LatestFirstPagination
from conversations.replies import RepliedBefore, Reply
from conversations.serializers import (
    BranchQuerySerializer,
    ContextSerializer,
    ConversationSerializer,
    EditSerializer,
    MessagePageSerializer,
    MessageSerializer,
    NewConversationSerializer,
    NewMessageSerializer,
)
from conversations.services import Turn
from inference.background import in_thread
from inference.exchange import begin
from inference.payloads import estimate_input_tokens, parse_object
from inference.replies import STREAM_HEADERS
from inference.views import json_response, openai_view
from quotas.idempotency import JSON_HEADERS, claimed
from quotas.idempotency_views import REPLAYED, attempt_of
from quotas.throttling import admitted_caller

MESSAGE = OpenApiParameter("message_id", UUID, OpenApiParameter.PATH, description="Of a message.")
DELETED = OpenApiParameter("deleted", bool, description="Those that were deleted and not purged yet, instead.")


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


@openai_view("POST", Scope.INFERENCE)
async def reply(request: HttpRequest, pk: str) -> HttpResponseBase:
    """Say something, and have it answered: whole, or with `stream: true` as server-sent events."""
    try:
        return await _answered(lambda: _open_reply(request, replies.open_reply, conversation_id=UUID(pk)))
    except RepliedBefore as before:
        return _replied_again(before.answer, is_stream=parse_object(request.body).get("stream") is True)


@openai_view("POST", Scope.INFERENCE)
async def regenerate(request: HttpRequest, pk: str, message_id: str) -> HttpResponseBase:
    """Another answer beside one that is there."""
    ids = {"conversation_id": UUID(pk), "answer_id": UUID(message_id)}
    return await _answered(lambda: _open_reply(request, replies.open_regeneration, **ids))


@openai_view("POST", Scope.INFERENCE)
async def channel_message(request: HttpRequest, name: str) -> HttpResponseBase:
    """One call for a bot: who says it is found or made, their open conversation goes on, and it is answered."""
    person = request.headers.get(HEADER, "").strip()
    try:
        return await _answered(
            lambda: _open_reply(request, channel_messages.open_message, person=person, channel_name=name)
        )
    except RepliedBefore as before:
        answer = before.answer
        welcome = await in_thread(lambda: channel_messages.welcome_again(answer))
        is_stream = parse_object(request.body).get("stream") is True
        return _replied_again(answer, is_stream=is_stream, welcome=welcome)
    except DomainError as error:
        refusal = error
        error.text = await in_thread(lambda: channels.text_for(name, refusal))
        raise


async def _answered(open_reply: Callable[[], Reply]) -> HttpResponseBase:
    exchange = await begin(open_reply)
    opened = exchange.opened
    assert isinstance(opened, Reply)
    if not exchange.call.is_stream:
        return json_response(await exchange.answer(lambda value: value | opened.ids))
    await exchange.start()
    return StreamingHttpResponse(exchange, headers=STREAM_HEADERS)


def _open_reply(request: HttpRequest, service: Callable[..., Reply], **named: UUID | str) -> Reply:
    caller = admitted_caller(request)
    body = parse_object(request.body) if request.body else {}
    with claimed(user_id=caller.user_id, attempt=attempt_of(request, body)) as claim:
        return service(caller=caller, body=body, claim=claim, **named)


def _replied_again(answer: Message, *, is_stream: bool, welcome: str = "") -> HttpResponse:
    """What is kept of an answer, whole, as if it came now."""
    if is_stream:
        return HttpResponse(answers.as_stream(answer, welcome=welcome), headers={**STREAM_HEADERS, REPLAYED: "true"})
    return HttpResponse(
        orjson.dumps(answers.as_completion(answer, welcome=welcome)), headers={**JSON_HEADERS, REPLAYED: "true"}
    )


class ConversationViewSet(mixins.RetrieveModelMixin, mixins.ListModelMixin, viewsets.GenericViewSet[Conversation]):
    """The caller's conversations. A chat call is kept in one by `metadata.conversation_id`."""

    scope = Scope.CONVERSATIONS
    serializer_class = ConversationSerializer
    queryset = Conversation.objects.none()
    filterset_class = ConversationFilter
    lookup_value_regex = UUID_PATTERN

    def get_queryset(self) -> QuerySet[Conversation]:
        mine = Conversation.objects.filter(user_id=caller_of(self.request).user_id)
        wants_deleted = self.action == "list" and self.request.query_params.get("deleted") == "true"
        if wants_deleted or self.action == "restore":
            return mine.exclude(deleted_at=None)
        return mine.alive()

    @extend_schema(parameters=[DELETED])
    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().list(request, *args, **kwargs)

    @extend_schema(request=NewConversationSerializer, responses={201: ConversationSerializer})
    def create(self, request: Request) -> Response:
        begun = lifecycle.begin(by=caller_of(request), **valid(NewConversationSerializer, request))
        return Response(ConversationSerializer(begun).data, status=status.HTTP_201_CREATED)

    @extend_schema(responses=ConversationSerializer)
    def update(self, request: Request, pk: UUID) -> Response:
        """What is given is set; the rest stays. With `head`, another branch becomes the current one."""
        conversation = self.get_object()
        serializer = ConversationSerializer(conversation, data=request.data, partial=True)
        serializer.is_valid(raise_exception=True)
        return self._answer(lifecycle.change(conversation=conversation, **serializer.validated_data))

    partial_update = update

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, pk: UUID) -> Response:
        """It can be restored for some time, and is then purged."""
        lifecycle.delete(conversation=self.get_object())
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(request=None, responses=ConversationSerializer)
    @action(detail=True, methods=["post"])
    def restore(self, request: Request, pk: UUID) -> Response:
        """Bring back what was deleted and is not purged yet."""
        return self._answer(lifecycle.restore(conversation=self.get_object()))

    @extend_schema(request=None, responses=ConversationSerializer)
    @action(detail=True, methods=["post"])
    def archive(self, request: Request, pk: UUID) -> Response:
        """Put it away. Saying something in it takes it up again."""
        return self._answer(lifecycle.archive(conversation=self.get_object(), is_archived=True))

    @extend_schema(request=None, responses=ConversationSerializer)
    @action(detail=True, methods=["post"])
    def unarchive(self, request: Request, pk: UUID) -> Response:
        return self._answer(lifecycle.archive(conversation=self.get_object(), is_archived=False))

    @extend_schema(request=None, responses=ConversationSerializer)
    @action(detail=True, methods=["post"])
    def pin(self, request: Request, pk: UUID) -> Response:
        return self._answer(lifecycle.pin(conversation=self.get_object(), is_pinned=True))

    @extend_schema(request=None, responses=ConversationSerializer)
    @action(detail=True, methods=["post"])
    def unpin(self, request: Request, pk: UUID) -> Response:
        return self._answer(lifecycle.pin(conversation=self.get_object(), is_pinned=False))

    @extend_schema(responses=ContextSerializer, filters=False)
    @action(detail=True, filterset_class=None, pagination_class=None)
    def context(self, request: Request, pk: UUID) -> Response:
        """What the next reply would send before what is said then."""
        conversation = self.get_object()
        prepared = replies.prepare(
            caller=caller_of(request),
            conversation=conversation,
            channel=channels.channel(conversation.channel),
            head=conversation.head_id,
        )
        tokens = estimate_input_tokens({"messages": prepared.messages})
        shown = {"model": prepared.model, "messages": prepared.messages, "left_out": prepared.left_out}
        return Response(ContextSerializer(shown | {"tokens": tokens}).data)

    # Messages

    @extend_schema(
        operation_id="conversations_messages_list",
        responses=MessagePageSerializer,
        parameters=[BranchQuerySerializer],
        filters=False,
    )
    @action(detail=True, filterset_class=None, pagination_class=LatestFirstPagination)
    def messages(self, request: Request, pk: UUID) -> Response:
        """What was said on the current branch, newest first; or on another one, or on all of them."""
        conversation = self.get_object()
        if request.query_params.get("all") == "true":
            said: QuerySet[Any] = Message.objects.filter(conversation=conversation)
            page: list[Any] | None = self.paginate_queryset(said)
            return self.get_paginated_response(MessageSerializer(page or [], many=True).data)
        query = BranchQuerySerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        return self._branch_page(conversation, **query.validated_data)

    @messages.mapping.post
    @extend_schema(request=NewMessageSerializer, responses={200: MessageSerializer, 201: MessageSerializer})
    def say(self, request: Request, pk: UUID) -> Response:
        """Add a message, without a reply. What came before under its `client_message_id` is answered with 200."""
        body = valid(NewMessageSerializer, request)
        at_head = "parent" not in body
        return self._said(threads.say(conversation_id=self.get_object().pk, at_head=at_head, **body))

    @extend_schema(responses=MessageSerializer, parameters=[MESSAGE])
    @action(detail=True, methods=["get"], url_path=f"messages/(?P<message_id>{UUID_PATTERN})", url_name="message")
    def message(self, request: Request, pk: UUID, message_id: UUID) -> Response:
        return Response(MessageSerializer(self._message(message_id)).data)

    @message.mapping.patch
    @extend_schema(request=EditSerializer, responses={200: MessageSerializer, 201: MessageSerializer})
    def edit(self, request: Request, pk: UUID, message_id: UUID) -> Response:
        """Say it otherwise: a new message on a branch of its own. The former one, and what followed, stays."""
        return self._said(threads.edit(message=self._message(message_id), **valid(EditSerializer, request)))

    def _message(self, id: UUID) -> Message:
        return threads.find_message(conversation_id=self.get_object().pk, id=id)

    def _answer(self, conversation: Conversation) -> Response:
        return Response(ConversationSerializer(conversation).data)

    def _said(self, said: tuple[Message, bool]) -> Response:
        message, is_new = said
        return Response(
            MessageSerializer(message).data, status=status.HTTP_201_CREATED if is_new else status.HTTP_200_OK
        )

    def _branch_page(
        self,
        conversation: Conversation,
        *,
        limit: int,
        branch: UUID | None = None,
        cursor: UUID | None = None,
        **_all: bool,
    ) -> Response:
        """From one message up to the first; the address of the next page names the message that it begins with."""
        last = cursor or branch or conversation.head_id
        found = threads.branch(conversation_id=conversation.pk, last=last, most=limit + 1)
        if (branch or cursor) and not found:
            raise MessageNotFound(param="cursor" if cursor else "branch")
        following = None
        if len(found) > limit:
            following = replace_query_param(self.request.build_absolute_uri(), "cursor", str(found.pop().pk))
        results = MessageSerializer(found, many=True).data
        return Response({"next": following, "previous": None, "results": results})
