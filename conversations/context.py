"""What was said last on a branch, for the model that goes on: from Redis, or else in one statement from PostgreSQL.

Messages never change, and what comes before one never does. So a list in Redis is right if it ends with the message
that the conversation's row names as its head: after an edit, another branch or a writer who told Redis nothing, it ends
with another one, and is made anew. It is never looked at for a conversation that was deleted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import orjson
import redis

from accounts.snapshots import redis_client
from conversations import threads
from conversations.models import Message
from conversations.models.channels import DEFAULT_CONTEXT_MESSAGES
from inference.payloads import estimate_input_tokens

SECONDS = 7200

# Goes on a list only behind the message that it follows.
ADD = """
local last = redis.call('LINDEX', KEYS[1], -1)
if last and cjson.decode(last).id == ARGV[1] or not last and ARGV[1] == '' then
    redis.call('RPUSH', KEYS[1], ARGV[2])
    redis.call('LTRIM', KEYS[1], -ARGV[3], -1)
    redis.call('EXPIRE', KEYS[1], ARGV[4])
end
"""


@dataclass(frozen=True, slots=True)
class Said:
    """What a model needs of a message. `parent` is empty for the first one of a branch."""

    id: str
    parent: str
    role: str
    content: str
    tool_calls: list[Any] = field(default_factory=list)
    tool_call_id: str = ""

    @classmethod
    def of(cls, message: Message) -> Said:
        parent = str(message.parent_id) if message.parent_id else ""
        return cls(str(message.pk), parent, message.role, message.content, message.tool_calls, message.tool_call_id)

    def as_payload(self) -> dict[str, Any]:
        """As OpenAI's clients write it."""
        payload: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.tool_calls:
            payload["tool_calls"] = self.tool_calls
        if self.tool_call_id:
            payload["tool_call_id"] = self.tool_call_id
        return payload


def latest(*, conversation_id: UUID, head: UUID | None, most: int) -> list[Said]:
    """At most `most` messages of the branch that ends at `head`, oldest first."""
    if head is None:
        return []
    kept = _kept(conversation_id)
    if kept and kept[-1].id == str(head) and (len(kept) >= most or not kept[0].parent):
        return kept[-most:]
    length = kept_of(most)
    said = [Said.of(message) for message in threads.branch(conversation_id=conversation_id, last=head, most=length)]
    said.reverse()
    _keep(conversation_id, said)
    return said[-most:]


def add(message: Message, *, most: int) -> None:
    """Note what was said, once it is committed; `most` as `latest` will be asked for."""
    parent = str(message.parent_id or "")
    try:
        redis_client().eval(
            *(ADD, 1, of_conversation(message.conversation_id)),
            *(parent, orjson.dumps(Said.of(message)), kept_of(most), SECONDS),
        )
    except redis.RedisError:
        redis_client().leave_alone()


def forget(conversation_ids: Iterable[UUID]) -> None:
    """Let nothing of these be kept any longer; without Redis, what is there goes by itself."""
    names = list(map(of_conversation, conversation_ids))
    if names:
        try:
            redis_client().delete(*names)
        except redis.RedisError:
            redis_client().leave_alone()


def fitting(said: Sequence[Said], *, room: int) -> list[Said]:
    """The latest messages that have at most `room` tokens together, without what only makes sense with what went."""
    kept: list[Said] = []
    for message in reversed(said):
        room -= estimate_input_tokens({"messages": [message.as_payload()]})
        if room < 0:
            break
        kept.append(message)
    # A tool's answer without the call that it answers is refused by model servers.
    while kept and kept[-1].role == Message.Role.TOOL:
        kept.pop()
    return kept[::-1]


def of_conversation(id: UUID) -> str:
    return f"context:{id}"


def kept_of(most: int) -> int:
    return max(most, DEFAULT_CONTEXT_MESSAGES)


def _kept(conversation_id: UUID) -> list[Said]:
    client = redis_client()
    if client.is_away:
        return []
    try:
        rows: Any = client.lrange(of_conversation(conversation_id), 0, -1)
    except redis.RedisError:
        client.leave_alone()
        return []
    return [Said(**orjson.loads(row)) for row in rows]


def _keep(conversation_id: UUID, said: Sequence[Said]) -> None:
    client, name = redis_client(), of_conversation(conversation_id)
    if client.is_away or not said:
        return
    pipeline = client.pipeline(transaction=True)
    pipeline.delete(name)
    pipeline.rpush(name, *(orjson.dumps(message) for message in said))
    pipeline.expire(name, SECONDS)
    try:
        pipeline.execute()
    except redis.RedisError:
        client.leave_alone()
