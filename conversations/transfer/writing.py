"""Many conversations at once: their messages by COPY, some thousand at a time, and then they themselves.

The conversations are new and nobody else's: so nobody has to be locked, and each message's place is known before. The
trigger of messages looks at each of them all the same; that their conversations are there, the database asks at the
end of the transaction. It takes the messages in while the next ones are read from the file.
"""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import orjson
from django.db import connection
from psycopg import Copy

from accounts.ids import uuid7
from conversations.models import Conversation, Message
from conversations.transfer.records import Said, Talk

BATCH = 5_000
COLUMNS = (
    *("id", "conversation_id", "sequence", "parent_id", "reply_to_id", "role", "status", "content", "tool_calls"),
    *("tool_call_id", "client_message_id", "model_used", "token_count", "metadata", "created_at"),
)
COPY = f"COPY {Message._meta.db_table} ({', '.join(COLUMNS)}) FROM STDIN"

Row = tuple[Any, ...]


class Writer:
    """Writes conversations of a user, in the caller's transaction, of which nobody may use the connection meanwhile."""

    def __init__(self, user_id: UUID, channel: str) -> None:
        self.user_id, self.channel = user_id, channel
        self._conversations: list[Conversation] = []
        self._written = 0
        self._open = ExitStack()
        self._copy: Copy | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._flush()
        else:
            self._open.__exit__(kind, error, trace)

    def add(self, talk: Talk) -> bool:
        """Whether what was added so far has been written now."""
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
        self._conversations.append(conversation)
        if self._copy is None:
            cursor = self._open.enter_context(connection.cursor())
            self._copy = self._open.enter_context(cursor.copy(COPY))
        for number, said in enumerate(talk.messages, start=1):
            self._copy.write_row(_row(conversation.pk, number, ids, said))
        self._written += len(ids)
        if self._written + len(self._conversations) < BATCH:
            return False
        self._flush()
        return True

    def _flush(self) -> None:
        self._open.close()
        Conversation.objects.bulk_create(self._conversations)
        self._conversations, self._written, self._copy = [], 0, None


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
