"""What a model has answered: where it goes in a conversation, and how a caller gets it."""

from __future__ import annotations

from json import JSONDecoder
from typing import Any
from uuid import UUID

import orjson

from conversations import threads
from conversations.context import Said
from conversations.models import Conversation, Message
from inference import services as inference
from inference.replies import DONE
from inference.services import Call

Role, Status = Message.Role, Message.Status

STATUS = {inference.Status.SUCCESS: Status.COMPLETE, inference.Status.CANCELLED: Status.CANCELLED}
_decoder = JSONDecoder()


def of_call(call: Call) -> dict[str, Any] | None:
    """What a message says of a call's answer; None if nothing has come."""
    outcome = call.outcome
    tool_calls = tool_calls_of(outcome.response)
    if not outcome.text and not tool_calls:
        return None
    return {
        "content": outcome.text,
        "tool_calls": tool_calls,
        "status": STATUS.get(outcome.status, Status.PARTIAL),
        "model_used": call.model,
        "token_count": outcome.output_tokens,
        "request_id": call.request_id,
    }


def place(message: Message, **fields: Any) -> Message | None:
    """Write the answer to a message, in the caller's transaction; None if the conversation was deleted meanwhile.

    It ends the current branch, if the message is on that: also when others have written meanwhile, so they all stay on
    it. If the branch has moved elsewhere, the answer hangs on its message and moves nothing.
    """
    given: dict[str, Any] = {"conversation_id": message.conversation_id, "role": Role.ASSISTANT, **fields}
    given["reply_to_id"] = message.pk
    answer = threads.append(**given, expects_head=True, head=message.pk)
    if answer is not None:
        return answer
    conversations = Conversation.objects.alive().select_for_update(no_key=True)
    head = conversations.filter(pk=message.conversation_id).values_list("head", flat=True).first()
    if head and threads.is_on_branch(conversation_id=message.conversation_id, wanted=message.pk, last=head):
        return threads.append(**given)
    return threads.append(**given, at_head=False, parent=message.pk, moves_head=False)


def place_beside(former: Message, question: Message, *, head: UUID | None, **fields: Any) -> Message | None:
    """Write another answer beside one; it ends the current branch, unless that has gone on or elsewhere meanwhile."""
    given: dict[str, Any] = {"conversation_id": former.conversation_id, "role": Role.ASSISTANT, **fields}
    given |= {"reply_to_id": question.pk, "at_head": False, "parent": former.parent_id}
    return threads.append(**given, expects_head=True, head=head) or threads.append(**given, moves_head=False)


def tool_calls_of(response: Any) -> list[Any]:
    """The tool calls of the first choice, whole; of a stream, put together from their pieces."""
    try:
        found = response["choices"][0]["message"].get("tool_calls")
    except (KeyError, IndexError, TypeError, AttributeError):
        return []
    return found if isinstance(found, list) else _joined(found) if isinstance(found, str) else []


def as_completion(answer: Message, *, welcome: str = "") -> dict[str, Any]:
    """What is kept of an answer, in the same shape."""
    choice = {"index": 0, "message": Said.of(answer).as_payload(), "finish_reason": "stop"}
    return _envelope(answer, "chat.completion") | {"choices": [choice]} | _ids_of(answer) | welcoming(welcome)


def as_stream(answer: Message, *, welcome: str = "") -> bytes:
    """What is kept of an answer, as a stream of one piece."""
    choice = {"index": 0, "delta": Said.of(answer).as_payload(), "finish_reason": "stop"}
    chunk = _envelope(answer, "chat.completion.chunk") | {"choices": [choice]}
    return first_event(_ids_of(answer) | welcoming(welcome)) + b"data: " + orjson.dumps(chunk) + b"\n\n" + DONE


def _envelope(answer: Message, kind: str) -> dict[str, Any]:
    created = int(answer.created_at.timestamp())
    return {"id": str(answer.pk), "object": kind, "created": created, "model": answer.model_used}


def ids(conversation_id: UUID, user_message_id: UUID | None, message_id: UUID) -> dict[str, str]:
    return {
        "conversation_id": str(conversation_id),
        "user_message_id": str(user_message_id),
        "message_id": str(message_id),
    }


def welcoming(text: str) -> dict[str, str]:
    return {"welcome": text} if text else {}


def _ids_of(answer: Message) -> dict[str, str]:
    return ids(answer.conversation_id, answer.reply_to_id, answer.pk)


def first_event(ids: dict[str, str]) -> bytes:
    """Which messages a stream is about."""
    return b"event: message_ids\ndata: " + orjson.dumps(ids) + b"\n\n"


def _joined(pieces: str) -> list[Any]:
    """`inference.replies` keeps the pieces of a stream as JSON lists, one behind the other."""
    calls: dict[int, dict[str, Any]] = {}
    at = 0
    while at < len(pieces):
        piece, at = _decoder.raw_decode(pieces, at)
        for delta in piece:
            call = calls.setdefault(delta.get("index", 0), {"function": {"name": "", "arguments": ""}})
            call |= {name: delta[name] for name in ("id", "type") if delta.get(name)}
            function = delta.get("function") or {}
            call["function"]["name"] += function.get("name") or ""
            call["function"]["arguments"] += function.get("arguments") or ""
    return [calls[index] for index in sorted(calls)]
