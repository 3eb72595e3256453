"""Conversations as files, in pieces of a page each, however long they are.

Each page is read by queries of its own, between which nothing is held. What was said never changes, so pages fit
together. Other conversations and deleted ones are in none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from enum import StrEnum
from itertools import groupby
from typing import Any
from uuid import UUID

from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection
from django.db.models import F, Q
from django.utils import timezone

from conversations.models import Conversation, Message
from conversations.transfer.formats import OWN, VERSION

PIECE = 64 * 1024
PAGE = 100
MESSAGES_PAGE = 500

CONVERSATION_FIELDS = (
    *("channel", "title", "model_override", "tags", "metadata", "started_at", "last_activity", "archived_at"),
    "pinned_at",
)
MESSAGE_FIELDS = (
    *("role", "status", "content", "tool_calls", "tool_call_id", "client_message_id", "model_used", "token_count"),
    "metadata",
)
# The current branch, first to last.
BRANCH = """
WITH RECURSIVE branch AS (
    SELECT id, parent_id, 1 AS place FROM conversations_message WHERE id = %s AND conversation_id = %s
  UNION ALL
    SELECT m.id, m.parent_id, b.place + 1 FROM branch b JOIN conversations_message m ON m.id = b.parent_id
)
SELECT id FROM branch ORDER BY place DESC
"""

Row = dict[str, Any]
# Python's own encoder: a JSON column may hold numbers that faster ones refuse.
_encoder = DjangoJSONEncoder(ensure_ascii=False)


class ExportFormat(StrEnum):
    JSONL = "jsonl"
    OPENAI = "openai"
    MARKDOWN = "markdown"


def as_jsonl(user_id: UUID, conversation_id: UUID | None = None) -> Iterator[str]:
    """Everything of the conversations, one a line. Messages are named by their sequence numbers."""
    for page in _pages(user_id, conversation_id):
        messages = groupby(_messages([row["id"] for row in page]), lambda row: row["conversation_id"])
        group = next(messages, None)
        for row in page:
            said: Iterable[Row] = ()
            if group is not None and group[0] == row["id"]:
                said = group[1]
            yield from _line(row, said)
            if group is not None and group[0] == row["id"]:
                group = next(messages, None)


def as_openai(user_id: UUID, conversation_id: UUID | None = None) -> Iterator[str]:
    """The current branch, as a chat call has it."""
    for row in _rows(user_id, conversation_id):
        yield '{"messages": ['
        separator = "\n"
        for message in _branch(row):
            yield separator + _encoder.encode(_openai_message(message))
            separator = ",\n"
        yield "\n]}\n"


def as_markdown(user_id: UUID, conversation_id: UUID | None = None) -> Iterator[str]:
    """The current branches, to be read."""
    separator = ""
    for row in _rows(user_id, conversation_id):
        title = " ".join(row["title"].split()) or "Conversation"
        yield f"{separator}# {title}\n\n{_time(row['started_at'])} · {row['channel']}\n"
        for message in _branch(row):
            who = message.model_used or message.get_role_display()
            yield f"\n## {who} · {_time(message.created_at)}\n\n{message.content}\n"
            if message.tool_calls:
                yield f"\n```json\n{_encoder.encode(message.tool_calls)}\n```\n"
        separator = "\n---\n\n"


FORMATS: dict[ExportFormat, tuple[str, str, Callable[[UUID, UUID | None], Iterator[str]]]] = {
    ExportFormat.JSONL: ("jsonl", "application/x-ndjson", as_jsonl),
    ExportFormat.OPENAI: ("json", "application/json", as_openai),
    ExportFormat.MARKDOWN: ("md", "text/markdown; charset=utf-8", as_markdown),
}


def exported(kind: ExportFormat, user_id: UUID, conversation_id: UUID | None = None) -> Iterator[bytes]:
    """A file in pieces of some PIECE characters, each as a whole."""
    gathered: list[str] = []
    size = 0
    for text in FORMATS[kind][2](user_id, conversation_id):
        gathered.append(text)
        size += len(text)
        if size >= PIECE:
            yield "".join(gathered).encode()
            gathered, size = [], 0
    yield "".join(gathered).encode()


def file_name(kind: ExportFormat) -> str:
    return f"mainstay-conversations-{timezone.now():%Y-%m-%d}.{FORMATS[kind][0]}"


def _pages(user_id: UUID, conversation_id: UUID | None) -> Iterator[list[Row]]:
    found = Conversation.objects.of(user_id).order_by("pk")
    if conversation_id is not None:
        found = found.filter(pk=conversation_id)
    rows = found.annotate(head_number=F("head__sequence")).values("id", "head_id", "head_number", *CONVERSATION_FIELDS)
    page = list(rows[:PAGE])
    while page:
        yield page
        page = list(rows.filter(pk__gt=page[-1]["id"])[:PAGE]) if len(page) == PAGE else []


def _rows(user_id: UUID, conversation_id: UUID | None) -> Iterator[Row]:
    for page in _pages(user_id, conversation_id):
        yield from page


def _messages(conversations: list[UUID]) -> Iterator[Row]:
    """What was said in all conversations of a page, those of one together, in its order."""
    rows = (
        Message.objects.filter(conversation__in=conversations)
        .annotate(parent_number=F("parent__sequence"), reply_to_number=F("reply_to__sequence"))
        .order_by("conversation_id", "sequence")
        .values("conversation_id", "sequence", "parent_number", "reply_to_number", "created_at", *MESSAGE_FIELDS)
    )
    page = list(rows[:MESSAGES_PAGE])
    while page:
        yield from page
        last = page[-1]["conversation_id"]
        after = Q(conversation__gt=last) | Q(conversation=last, sequence__gt=page[-1]["sequence"])
        page = list(rows.filter(after)[:MESSAGES_PAGE]) if len(page) == MESSAGES_PAGE else []


def _line(row: Row, messages: Iterable[Row]) -> Iterator[str]:
    head = {"format": OWN, "version": VERSION, **{name: row[name] for name in CONVERSATION_FIELDS}}
    times = {name: _precise(row[name]) for name in CONVERSATION_FIELDS if isinstance(row[name], datetime)}
    yield f'{_encoder.encode(head | times)[:-1]}, "messages": ['
    comma = ""
    for message in messages:
        said = {
            "sequence": message["sequence"],
            "parent": message["parent_number"],
            "reply_to": message["reply_to_number"],
            **{name: message[name] for name in MESSAGE_FIELDS},
            "created_at": _precise(message["created_at"]),
        }
        yield comma + _encoder.encode(said)
        comma = ", "
    yield f'], "head": {_encoder.encode(row["head_number"])}}}\n'


def _branch(row: Row) -> Iterator[Message]:
    with connection.cursor() as cursor:
        cursor.execute(BRANCH, [row["head_id"], row["id"]])
        ids = [key for (key,) in cursor.fetchall()]
    for start in range(0, len(ids), MESSAGES_PAGE):
        found = Message.objects.in_bulk(ids[start : start + MESSAGES_PAGE])
        yield from (found[key] for key in ids[start : start + MESSAGES_PAGE] if key in found)


def _openai_message(message: Message) -> Row:
    said: Row = {"role": message.role, "content": message.content}
    if message.tool_calls:
        said |= {"content": message.content or None, "tool_calls": message.tool_calls}
    return said | ({"tool_call_id": message.tool_call_id} if message.tool_call_id else {})


def _precise(time: datetime) -> str:
    """With microseconds, which Django's encoder leaves out."""
    return time.isoformat().replace("+00:00", "Z")


def _time(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M} UTC"
