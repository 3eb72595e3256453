"""What a file has, as a conversation: our own format, and OpenAI's messages; ChatGPT's is beside it."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any

from django.utils import timezone

from accounts.exceptions import InvalidInput
from conversations import threads
from conversations.models import Message
from conversations.models.conversations import MOST_TAGS
from conversations.transfer import chatgpt
from conversations.transfer.records import MOST_CONTENT, Fields, Said, Talk

OWN = "mainstay-conversation"
VERSION = 1
TITLE_LENGTH = 60
ROLES = Message.Role.values
# What OpenAI calls otherwise.
ROLE_OF = {"developer": "system", "function": "tool"} | {role: role for role in ROLES}


class Format(StrEnum):
    JSONL = "jsonl"
    OPENAI = "openai"
    CHATGPT = "chatgpt"


def talk_of(value: Any, kind: Format | None = None) -> Talk:
    """A value of a file as a conversation, of a format that shows in its fields or is `kind`. Raises `InvalidInput`."""
    found = Fields(value)
    if kind is None:
        kind = _kind_of(found)
    talk = READERS[kind](found)
    if not talk.title:
        talk.title = _first_words(talk.messages)
    _check(talk.messages)
    return talk


def _kind_of(found: Fields) -> Format:
    if found.value.get("format") == OWN:
        return Format.JSONL
    if "mapping" in found.value:
        return Format.CHATGPT
    if "messages" in found.value:
        return Format.OPENAI
    raise InvalidInput(
        f'It has neither "format": "{OWN}", nor `messages` as OpenAI has them, nor a `mapping` as ChatGPT has it.',
        code="unknown_format",
    )


# Our own ---------------------------------------------------------------------------------------------------------


def _own(found: Fields) -> Talk:
    if (found.value.get("format"), found.value.get("version")) != (OWN, VERSION):
        raise found.wrong("version", f"must be {VERSION}, of the format {OWN}", "unknown_format")
    numbers: dict[int, int] = {}
    messages = [
        _own_message(Fields(value, f"messages.{place}"), numbers) for place, value in enumerate(found.items("messages"))
    ]
    tags = found.items("tags")
    if len(tags) > MOST_TAGS or not all(isinstance(tag, str) and len(tag) <= 50 for tag in tags):
        raise found.wrong("tags", f"must be at most {MOST_TAGS} texts of 50 characters")
    started_at = found.time("started_at") or timezone.now()
    return Talk(
        title=found.text("title", most=200),
        channel=found.text("channel", most=50),
        model_override=found.text("model_override", most=100),
        tags=found.storable("tags", tags),
        metadata=found.mapping("metadata"),
        started_at=started_at,
        last_activity=found.time("last_activity") or started_at,
        archived_at=found.time("archived_at"),
        pinned_at=found.time("pinned_at"),
        head=_named(found, "head", numbers),
        messages=messages,
    )


def _own_message(found: Fields, numbers: dict[int, int]) -> Said:
    """`numbers` has the places of the sequence numbers so far."""
    parent, reply_to = _named(found, "parent", numbers), _named(found, "reply_to", numbers)
    sequence = found.integer("sequence")
    if sequence is None or sequence in numbers:
        raise found.wrong("sequence", "must be a number that no other message has")
    numbers[sequence] = len(numbers) + 1
    return Said(
        role=found.choice("role", ROLES),
        status=found.choice("status", Message.Status.values, Message.Status.COMPLETE.value),
        content=found.text("content", most=MOST_CONTENT),
        created_at=found.time("created_at") or timezone.now(),
        parent=parent,
        reply_to=reply_to,
        tool_calls=found.storable("tool_calls", found.items("tool_calls")),
        tool_call_id=found.text("tool_call_id", most=100),
        client_message_id=found.text("client_message_id", most=100),
        model_used=found.text("model_used", most=100),
        token_count=found.integer("token_count"),
        metadata=found.mapping("metadata"),
    )


def _named(found: Fields, name: str, numbers: dict[int, int]) -> int | None:
    """Which message a sequence number names; it has to be one that came before."""
    sequence = found.integer(name)
    if sequence is not None and sequence not in numbers:
        raise found.wrong(name, "names no message that came before", "unknown_message")
    return None if sequence is None else numbers[sequence]


# OpenAI's --------------------------------------------------------------------------------------------------------


def _openai(found: Fields) -> Talk:
    now = timezone.now()
    messages = []
    for place, value in enumerate(found.items("messages")):
        message = Fields(value, f"messages.{place}")
        name = message.text("name", most=100)
        messages.append(
            Said(
                role=ROLE_OF[message.choice("role", list(ROLE_OF))],
                content=_text_of(message),
                created_at=now,
                parent=place or None,
                tool_calls=message.storable("tool_calls", message.items("tool_calls")),
                tool_call_id=message.text("tool_call_id", most=100),
                metadata={"name": name} if name else {},
            )
        )
    if not messages:
        raise found.wrong("messages", "must be a list of at least one message")
    title, model = found.text("title", most=200), found.text("model", most=100)
    return Talk(title, now, now, len(messages), messages, model_override=model)


def _text_of(message: Fields) -> str:
    """Of a text, or of parts, of which those that are no text are left out."""
    if not isinstance(message.value.get("content"), list):
        return message.text("content", most=MOST_CONTENT) or message.text("refusal", most=MOST_CONTENT)
    parts = [Fields(part, f"{message.path}.content.{place}") for place, part in enumerate(message.items("content"))]
    kinds = [(part, part.value.get("type")) for part in parts]
    return "\n".join(part.text(str(kind), most=MOST_CONTENT) for part, kind in kinds if kind in ("text", "refusal"))


READERS: dict[Format, Callable[[Fields], Talk]] = {
    Format.JSONL: _own,
    Format.OPENAI: _openai,
    Format.CHATGPT: chatgpt.talk_of,
}


# What holds for all ----------------------------------------------------------------------------------------------


def _check(messages: list[Said]) -> None:
    """What the database holds of messages, too, said with their places."""
    client_ids: set[str] = set()
    for place, message in enumerate(messages):
        at = Fields({}, f"messages.{place}")
        if message.role in {Message.Role.USER, Message.Role.SYSTEM}:
            _check_content(message, at)
        if message.reply_to is not None and message.role != Message.Role.ASSISTANT:
            raise at.wrong("reply_to", "is for what the assistant says")
        if message.tool_call_id and message.role != Message.Role.TOOL:
            raise at.wrong("tool_call_id", "is for what a tool says")
        if message.client_message_id in client_ids:
            raise at.wrong("client_message_id", "was used before in this conversation")
        client_ids |= {message.client_message_id} - {""}


def _check_content(message: Said, at: Fields) -> None:
    try:
        threads.check_content(message.role, message.content, tool_calls=message.tool_calls)
    except InvalidInput as error:
        raise at.wrong("content", f"cannot be kept: {error}", error.code) from None


def _first_words(messages: list[Said]) -> str:
    said = next((message.content for message in messages if message.role == Message.Role.USER), "")
    words = " ".join(said[: 10 * TITLE_LENGTH].split())
    return words if len(words) <= TITLE_LENGTH else f"{words[: TITLE_LENGTH - 1].rstrip()}…"
