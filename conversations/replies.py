"""One turn: what somebody says, and what a model answers, on the metered road.

The first commit holds what the call may use and writes the user's message; the second charges it and writes the answer.
A message that came before, by its `client_message_id` or its Idempotency-Key, is not written again: its answer is
answered again, or it is answered now if nobody has done so yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from types import MappingProxyType
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction

from accounts.caller import Caller
from accounts.exceptions import InvalidInput
from accounts.ids import uuid7
from conversations import answers, channels, context, threads
from conversations.channels import Channel
from conversations.context import Said
from conversations.exceptions import ConversationNotFound, ReplyInProgress
from conversations.models import Conversation, Message
from inference import services as inference
from inference.models import Request
from inference.payloads import estimate_input_tokens
from inference.routes import routes_for
from inference.services import Call, UsedPrompt
from prompts.rendering import render
from quotas import services as quotas
from quotas import used_tokens
from quotas.idempotency import Claim
from quotas.meters import Resource

Role = Message.Role

# What a caller may say about the answer besides; the rest of the payload is ours.
OPTIONS = (
    *("temperature", "top_p", "max_tokens", "max_completion_tokens", "stop", "seed", "tools", "tool_choice"),
    *("response_format", "presence_penalty", "frequency_penalty", "stream_options"),
)
TITLE_LENGTH = 60


class RepliedBefore(Exception):
    """The message has its answer. Nothing is done now."""

    def __init__(self, answer: Message) -> None:
        super().__init__("The message was answered before.")
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a call is made of; `left_out` messages of the branch did not fit."""

    model: Any
    messages: list[dict[str, Any]]
    left_out: int
    prompt: UsedPrompt | None


@dataclass(frozen=True, slots=True)
class Reply:
    """An open call that answers `message`; the answer will have the id `answer_id`.

    With `beside`, it is another answer beside that one; the branch ended at `head` when it was asked for.
    """

    call: Call
    channel: Channel
    message: Message
    answer_id: UUID
    beside: Message | None = None
    head: UUID | None = None
    welcome: str = ""

    @property
    def ids(self) -> dict[str, str]:
        """What the messages are called; and how a bot welcomes whoever has written for the first time."""
        ids = answers.ids(self.message.conversation_id, self.message.pk, self.answer_id)
        return ids | answers.welcoming(self.welcome)

    def settle(self) -> None:
        """The second commit: money, history and the answer, together."""
        answer = answers.of_call(self.call)
        with transaction.atomic():
            inference.settle(self.call)
            if answer is not None:
                self._write(answer)
        if self.channel.rates:
            outcome = self.call.outcome
            used_tokens.note((self.channel.subject,), outcome.input_tokens + outcome.output_tokens)

    def _write(self, given: dict[str, Any]) -> None:
        """Unless somebody else answers the message by now, as the sweeper had given this call up."""
        message = self.message
        mine = Message.objects.filter(pk=message.pk, request_id=self.call.request_id)
        if not mine.update(request_id=self.call.request_id):
            return
        given |= {"id": self.answer_id}
        if self.beside is None:
            answer = answers.place(message, **given)
        else:
            answer = answers.place_beside(self.beside, message, head=self.head, **given)
        if answer is not None:
            transaction.on_commit(partial(context.add, answer, most=self.channel.context_messages), robust=True)


def open_reply(*, caller: Caller, conversation_id: UUID, body: dict[str, Any], claim: Claim | None = None) -> Reply:
    """The first commit of a turn. `claim` is that to the caller's Idempotency-Key, if it has given one.

    Without `content`, what is at the end of the branch is answered, such as the result of a tool. Raises
    `ConversationNotFound`, `ChannelOff`, `RateLimitExceeded`, `ClientMessageReused`, `RepliedBefore`,
    `ReplyInProgress`, and what `inference.services.open_call` raises; then nothing has been written.
    """
    said = checked(body, claim)
    return open_in(
        conversation=own_conversation(conversation_id, caller), caller=caller, said=said, body=body, claim=claim
    )


def open_in(
    *,
    conversation: Conversation,
    caller: Caller,
    said: tuple[str | None, str],
    body: dict[str, Any],
    claim: Claim | None,
    welcome: str = "",
) -> Reply:
    """The first commit of a turn in a conversation that is the caller's. `said` is what `checked` answers."""
    content, client_id = said
    channel = channels.channel(conversation.channel)
    channel.check()
    known = _unanswered(conversation, client_id, content)
    channel.admit()
    prepared = prepare(
        caller=caller,
        conversation=conversation,
        channel=channel,
        head=known.parent_id if known else conversation.head_id,
        now=[Said.of(known).as_payload() if known else {"role": "user", "content": content}],
        body=body,
    )
    payload = _payload(prepared, channel, body)
    try:
        with quotas.holding():
            call = inference.open_call(
                caller=caller, kind=Resource.LLM, payload=payload, claim=claim, prompt=prepared.prompt
            )
            message = _answer_now(known, call) if known else _write(conversation, content or "", client_id, call)
            if known is None:
                transaction.on_commit(partial(context.add, message, most=channel.context_messages), robust=True)
    except IntegrityError as error:
        if threads.violates(error, "message_client_message_id_unique"):
            raise ReplyInProgress from None
        raise
    return _opened(Reply(call, channel, message, uuid7(), welcome=welcome))


def open_regeneration(
    *, caller: Caller, conversation_id: UUID, answer_id: UUID, body: dict[str, Any], claim: Claim | None = None
) -> Reply:
    """The first commit of another answer beside one that is there, which stays on a branch of its own.

    Raises `MessageNotFound`, `InvalidInput` for what is no answer, and what `open_reply` raises besides.
    """
    checked(body, None)
    conversation = own_conversation(conversation_id, caller)
    channel = channels.channel(conversation.channel)
    channel.check()
    former = threads.find_message(conversation_id=conversation.pk, id=answer_id)
    question_id = former.reply_to_id or former.parent_id
    if former.role != Role.ASSISTANT or question_id is None:
        raise InvalidInput("Only an answer can be regenerated.", param="message_id", code="not_an_answer")
    question = threads.find_message(conversation_id=conversation.pk, id=question_id)
    _check_not_running(question)
    channel.admit()
    prepared = prepare(caller=caller, conversation=conversation, channel=channel, head=former.parent_id, body=body)
    with quotas.holding():
        call = inference.open_call(
            caller=caller,
            kind=Resource.LLM,
            payload=_payload(prepared, channel, body),
            claim=claim,
            prompt=prepared.prompt,
        )
        _take(question, call)
    return _opened(Reply(call, channel, question, uuid7(), former, conversation.head_id))


def own_conversation(id: UUID, caller: Caller) -> Conversation:
    found = Conversation.objects.of(caller.user_id).filter(pk=id).first()
    if found is None:
        raise ConversationNotFound
    return found


def prepare(
    *,
    caller: Caller,
    conversation: Conversation,
    channel: Channel,
    head: UUID | None,
    now: Sequence[dict[str, Any]] = (),
    body: Mapping[str, Any] = MappingProxyType({}),
) -> Prepared:
    """The system's words and as much of the branch as the model can take, with what is said now behind it.

    Raises `ModelNotFound`, and what `prompts.rendering.render` raises.
    """
    model = body.get("model") or conversation.model_override or caller.preferred_model or channel.default_model
    system, prompt = _system(channel)
    said = context.latest(conversation_id=conversation.pk, head=head, most=channel.context_messages)
    room = _room(model, channel, body) - estimate_input_tokens({"messages": [*system, *now]})
    kept = context.fitting(said, room=room)
    if not now:
        kept = kept or said[-1:]
    messages = [*system, *(message.as_payload() for message in kept), *now]
    return Prepared(model, messages, len(said) - len(kept), prompt)


def checked(body: dict[str, Any], claim: Claim | None) -> tuple[str | None, str]:
    """What is said, and the id under which it comes again; looked at by hand: this is the hot path.

    Raises `InvalidInput`.
    """
    content, client_id = body.get("content"), body.get("client_message_id", "")
    if content is not None:
        if not isinstance(content, str):
            raise InvalidInput("`content` must be a text.", param="content", code="invalid_type")
        threads.check_content(Role.USER, content, tool_calls=[])
    if not isinstance(client_id, str) or len(client_id) > 100 or not client_id.isprintable():
        raise InvalidInput("`client_message_id` must have at most 100 printable characters.", param="client_message_id")
    if not isinstance(body.get("stream") or False, bool):
        raise InvalidInput("`stream` must be true or false.", param="stream", code="invalid_type")
    if not isinstance(body.get("stream_options") or {}, dict):
        raise InvalidInput("`stream_options` must be an object.", param="stream_options", code="invalid_type")
    return content, client_id or (f"key:{sha256(claim.key.encode()).hexdigest()}" if claim else "")


def _unanswered(conversation: Conversation, client_id: str, content: str | None) -> Message | None:
    """The message that is there already and waits for an answer; None if it is still to be written."""
    if content is None:
        message = Message.objects.filter(pk=conversation.head_id).first() if conversation.head_id else None
        if message is None or message.role not in {Role.USER, Role.TOOL}:
            raise InvalidInput("There is nothing to be answered: say something.", param="content", code="required")
    else:
        message = threads.said_before(conversation.pk, client_id, Role.USER, content) if client_id else None
        if message is None:
            return None
    answer = Message.objects.filter(reply_to=message).order_by("-sequence").first()
    if answer is not None:
        raise RepliedBefore(answer)
    _check_not_running(message)
    return message


def _check_not_running(message: Message) -> None:
    running = Request.objects.filter(status=Request.Status.RUNNING)
    if message.request_id and running.filter(pk=message.request_id).exists():
        raise ReplyInProgress


def _answer_now(message: Message, call: Call) -> Message:
    """Of several who want to answer a message that was left without one, the first."""
    _take(message, call)
    if Message.objects.filter(reply_to=message).exists():
        raise ReplyInProgress
    return message


def _take(message: Message, call: Call) -> None:
    """Make the call the one that answers the message, unless another one has become that meanwhile."""
    former = Message.objects.filter(pk=message.pk, request=message.request_id)
    if not former.update(request_id=call.request_id):
        raise ReplyInProgress
    message.request_id = call.request_id


def _opened(reply: Reply) -> Reply:
    if reply.call.is_stream:
        reply.call.prologue = answers.first_event(reply.ids)
    return reply


def _write(conversation: Conversation, content: str, client_id: str, call: Call) -> Message:
    message = threads.append(
        conversation_id=conversation.pk,
        role=Role.USER,
        content=content,
        client_message_id=client_id,
        request_id=call.request_id,
    )
    if message is None:
        raise ConversationNotFound
    if not conversation.title and message.parent_id is None:
        title = " ".join(content.split())
        title = title if len(title) <= TITLE_LENGTH else f"{title[: TITLE_LENGTH - 1].rstrip()}…"
        Conversation.objects.filter(pk=conversation.pk, title="").update(title=title)
    return message


def _payload(prepared: Prepared, channel: Channel, body: dict[str, Any]) -> dict[str, Any]:
    defaults = {"temperature": channel.temperature, "top_p": channel.top_p, "max_tokens": channel.max_tokens}
    if body.get("max_completion_tokens") is not None:
        del defaults["max_tokens"]
    options = {name: value for name, value in defaults.items() if value is not None}
    options |= {name: body[name] for name in OPTIONS if body.get(name) is not None}
    streamed = {"stream": True} if body.get("stream") else {}
    return {"model": prepared.model, "messages": prepared.messages, **options, **streamed}


def _system(channel: Channel) -> tuple[list[dict[str, Any]], UsedPrompt | None]:
    if channel.template_owner_id is not None:
        rendering = render(
            owner_id=channel.template_owner_id, name=channel.template_name, label=channel.prompt_label, variables={}
        )
        used = UsedPrompt(rendering.version_id, rendering.name, rendering.number, rendering.label)
        if rendering.is_text:
            return [{"role": "system", "content": rendering.text}], used
        return [dict(message) for message in rendering.messages], used
    return ([{"role": "system", "content": channel.system_prompt}] if channel.system_prompt else []), None


def _room(model: Any, channel: Channel, body: Mapping[str, Any]) -> int:
    """How many tokens the input may have, as far as anything says so."""
    rooms = [channel.context_tokens] if channel.context_tokens else []
    # What is no name at all, `open_call` refuses.
    route = routes_for(model, Resource.LLM)[0] if isinstance(model, str) and model else None
    if route is not None and route.context_window is not None:
        asked = body.get("max_completion_tokens") or body.get("max_tokens") or channel.max_tokens
        output = asked or route.max_output_tokens or settings.DEFAULT_OUTPUT_TOKENS
        rooms.append(route.context_window - output if isinstance(output, int) else route.context_window)
    return min(rooms, default=10**9)
