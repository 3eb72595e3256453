"""Many conversations at once: some thousand messages in two statements, which go in by COPY.

The conversations are new and nobody else's: so nobody has to be locked, and each message's place is known before. The
trigger of messages looks at each of them all the same.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import orjson
from django.db import connection

from accounts.ids import uuid7
from conversations.models import Conversation, Message
from conversations.transfer.records import Said, Talk

BATCH = 2_000
COLUMNS = (
    *("id", "conversation_id", "sequence", "parent_id", "reply_to_id", "role", "status", "content", "tool_calls"),
    *("tool_call_id", "client_message_id", "model_used", "token_count", "metadata", "created_at"),
)
COPY = f"COPY {Message._meta.db_table} ({', '.join(COLUMNS)}) FROM STDIN"

Row = tuple[Any, ...]


class Writer:
    """Writes conversations of a user, in the caller's transaction; what was added last needs a `flush`."""

    def __init__(self, user_id: UUID, channel: str) -> None:
        self.user_id, self.channel = user_id, channel
        self.conversations: list[Conversation] = []
        self.rows: list[Row] = []

    def add(self, talk: Talk) -> bool:
        """Whether so many wait now that it is time for a flush."""
        # Of one millisecond, ids come in any order.
        ids = sorted(uuid7() for _ in talk.messages)
        conversation = Conversation(
            user_id=self.user_id,
            channel=talk.channel or self.channel,
            title=talk.title,
            model_override=talk.model_override,
            tags=talk.tags,
            metadata=talk.metadata,
            head_id=None if talk.head is None else ids[talk.head - 1],
            last_sequence=len(ids),
            is_active=talk.archived_at is None,
            archived_at=talk.archived_at,
            pinned_at=talk.pinned_at,
            started_at=talk.started_at,
            last_activity=talk.last_activity,
        )
        self.conversations.append(conversation)
        self.rows += [_row(conversation.pk, number, ids, said) for number, said in enumerate(talk.messages, start=1)]
        return len(self.rows) + len(self.conversations) >= BATCH

    def flush(self) -> None:
        Conversation.objects.bulk_create(self.conversations)
        with connection.cursor() as cursor, cursor.copy(COPY) as copy:
            for row in self.rows:
                copy.write_row(row)
        self.conversations, self.rows = [], []


def _row(conversation_id: UUID, number: int, ids: list[UUID], said: Said) -> Row:
    """In the order of COLUMNS."""
    return (
        ids[number - 1],
        conversation_id,
        number,
        None if said.parent is None else ids[said.parent - 1],
        None if said.reply_to is None else ids[said.reply_to - 1],
        said.role,
        said.status,
        said.content,
        orjson.dumps(said.tool_calls).decode(),
        said.tool_call_id,
        said.client_message_id,
        said.model_used,
        said.token_count,
        orjson.dumps(said.metadata).decode(),
        said.created_at,
    )
