"""What happens in a user's conversations, told at once to whoever listens: Redis's pub/sub, `live:{user}`.

Nothing is kept: who was not listening, reads the lists.
"""

from __future__ import annotations

from functools import partial
from typing import Any
from uuid import UUID

import orjson
import redis
from django.db import transaction

from accounts.snapshots import redis_client

CREATED, UPDATED, DELETED = "conversation.created", "conversation.updated", "conversation.deleted"
SAID = "message.created"


def tell(user_id: UUID, event: str, *, conversation_id: UUID, **data: Any) -> None:
    """Once the running transaction commits; without Redis, nobody is told."""
    told = {"event": event, "conversation_id": conversation_id, **data}
    transaction.on_commit(partial(_publish, of_user(user_id), orjson.dumps(told)), robust=True)


def listeners(user_id: UUID) -> int:
    """How many streams a user has open, over all processes. Raises `RedisError`."""
    found: Any = redis_client().pubsub_numsub(of_user(user_id))
    return int(found[0][1])


def of_user(user_id: UUID) -> str:
    return f"live:{user_id}"


def _publish(name: str, told: bytes) -> None:
    client = redis_client()
    if not client.is_away:
        try:
            client.publish(name, told)
        except redis.RedisError:
            client.leave_alone()
