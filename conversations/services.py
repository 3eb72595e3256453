"""Everything that writes conversations, and the chat call that may be kept in one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
from django.db import transaction

from accounts.caller import Caller
from accounts.exceptions import InvalidInput
from conversations import answers, threads
from conversations.exceptions import ConversationNotFound
from conversations.models import Conversation, Message
from inference import services as inference
from inference.services import Call, UsedPrompt
from prompts.asking import render_asked
from quotas import services as quotas
from quotas.idempotency import Claim
from quotas.meters import Resource

Role = Message.Role


@dataclass(frozen=True, slots=True)
class Turn:
    """A chat call, and the conversation that it is kept in, if any."""

    call: Call
    conversation_id: UUID | None = None
    message: Message | None = None

    def settle(self) -> None:
        """The second commit: money, history and the assistant's message, together.

        The call of a conversation that was deleted meanwhile is settled all the same.
        """
        answer = answers.of_call(self.call)
        if self.conversation_id is None or answer is None:
            inference.settle(self.call)
            return
        with transaction.atomic():
            inference.settle(self.call)
            if self.message is not None:
                answers.place(self.message, **answer)
            else:
                append_message(conversation_id=self.conversation_id, role=Role.ASSISTANT, **answer)


def open_chat(
    *, caller: Caller, payload: dict[str, Any], conversation_id: str | None = None, claim: Claim | None = None
) -> Turn:
    """The first commit of a chat call: its hold, its request row, and the user's message if it names a conversation.

    The conversation is named by `metadata.conversation_id` in the payload or by `conversation_id`; a template may stand
    instead of messages as `prompt`. Raises `ConversationNotFound`, what `prompts.asking.render_asked` raises, and what
    `inference.services.open_call` raises.
    """
    payload, prompt = _take_prompt(payload, caller)
    _check_chat(payload)
    payload, named = _take_conversation_id(payload)
    if not (named or conversation_id):
        return Turn(inference.open_call(caller=caller, kind=Resource.LLM, payload=payload, claim=claim, prompt=prompt))
    with quotas.holding():
        conversation = _own_conversation(named or conversation_id, caller)
        call = inference.open_call(caller=caller, kind=Resource.LLM, payload=payload, claim=claim, prompt=prompt)
        last, message = payload["messages"][-1], None
        if last.get("role") == Role.USER:
            message = append_message(
                conversation_id=conversation,
                role=Role.USER,
                content=_text_of(last.get("content")),
                request_id=call.request_id,
            )
        return Turn(call, conversation, message)


def append_message(*, conversation_id: UUID, role: Message.Role, content: str, **fields: Any) -> Message | None:
    """Add a message at the end, and mark the conversation as active now; None if it was deleted meanwhile."""
    return threads.append(conversation_id=conversation_id, role=role, content=content, **fields)


def _own_conversation(id: Any, caller: Caller) -> UUID:
    try:
        wanted = UUID(id)
    except (ValueError, TypeError, AttributeError):
        raise ConversationNotFound(param="metadata.conversation_id") from None
    if not Conversation.objects.of(caller.user_id).filter(pk=wanted).exists():
        raise ConversationNotFound(param="metadata.conversation_id")
    return wanted


def _take_conversation_id(payload: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """The payload without the name of the conversation, which is ours and not the model server's."""
    metadata = payload.get("metadata")
    if not isinstance(metadata, dict) or "conversation_id" not in metadata:
        return payload, None
    rest = {key: value for key, value in metadata.items() if key != "conversation_id"}
    payload = {key: value for key, value in payload.items() if key != "metadata"}
    return (payload | {"metadata": rest} if rest else payload), metadata["conversation_id"]


def _take_prompt(payload: dict[str, Any], caller: Caller) -> tuple[dict[str, Any], UsedPrompt | None]:
    """The payload with the messages that its `prompt` comes to, and which version that is.

    OpenAI's own client does not send a chat without `messages`: an empty list is none.
    """
    if "prompt" not in payload:
        return payload, None
    if payload.get("messages") not in (None, []):
        raise InvalidInput("Send `messages` or `prompt`, not both.", param="prompt", code="prompt_and_messages")
    prompt = payload["prompt"]
    if not isinstance(prompt, dict):
        raise InvalidInput("`prompt` must be an object with a name.", param="prompt", code="invalid_type")
    if not isinstance(prompt.get("name"), str):
        raise InvalidInput("Name a template.", param="prompt.name", code="required")
    asked = {key: value for key, value in prompt.items() if key != "name"}
    rendering = render_asked(caller=caller, name=prompt["name"], asked=asked, param="prompt.")
    rest = {key: value for key, value in payload.items() if key != "prompt"}
    return rest | {"messages": rendering.messages}, rendering.used


def _check_chat(payload: dict[str, Any]) -> None:
    messages = payload.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(item, dict) for item in messages):
        raise InvalidInput("`messages` must be a list of at least one message object.", param="messages")
    if not isinstance(payload.get("stream") or False, bool):
        raise InvalidInput("`stream` must be true or false.", param="stream", code="invalid_type")
    if not isinstance(payload.get("stream_options") or {}, dict):
        raise InvalidInput("`stream_options` must be an object.", param="stream_options", code="invalid_type")


def _text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        return "\n".join(part for part in parts if isinstance(part, str))
    return "" if content is None else orjson.dumps(content).decode()
