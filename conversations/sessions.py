"""Which conversation somebody goes on with who writes from a channel.

Redis keeps it for an hour after the last message, in the hash `session:{channel}:{user}`; after that, or without Redis,
it is the one in which something was said last. An archived or deleted one is not gone on with.
"""

from __future__ import annotations

from functools import partial
from typing import Any
from uuid import UUID

import redis
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone
from django.utils.crypto import salted_hmac

from accounts import people
from accounts.models import User
from accounts.snapshots import redis_client
from conversations import live, presence
from conversations.models import Conversation, Message

SECONDS = 3600
# Where a platform sends an update again after its person has begun anew: so many conversations back it is found.
MOST_LOOKED_AT = 5

Session = dict[str, str]


def touch(*, channel: str, user_id: UUID) -> Session:
    """What Redis keeps of a person's session, for another hour, and that the person is there: one round trip."""
    client = redis_client()
    if client.is_away:
        return {}
    name = of_person(channel, user_id)
    pipeline = client.pipeline(transaction=False)
    pipeline.hgetall(name)
    pipeline.hset(name, "last_activity", timezone.now().isoformat())
    pipeline.expire(name, SECONDS)
    presence.note(pipeline, channel=channel, user_id=user_id)
    try:
        kept: dict[bytes, bytes] = pipeline.execute()[0]
    except redis.RedisError:
        client.leave_alone()
        return {}
    return {key.decode(): value.decode() for key, value in kept.items()}


def resume(
    *, channel: str, user_id: UUID, session: Session, client_message_id: str = "", begins_anew: bool = False
) -> Conversation:
    """The person's open conversation on the channel, or a new one.

    What was said before under its `client_message_id` leads to where it was said, also if it asked for a new one.
    """
    mine = Conversation.objects.of(user_id).filter(channel=channel)
    found = _said_in(mine, client_message_id)
    if found is None and not begins_anew:
        found = _kept(mine, session) or _newest(mine)
    if found is None:
        found = _begin(mine, begins_anew, channel=channel, user_id=user_id, client_message_id=client_message_id)
    if session.get("conversation_id") != str(found.pk):
        _remember(channel, user_id, conversation_id=str(found.pk))
    return found


def note_username(*, channel: str, channel_user_id: str, user_id: UUID, session: Session, username: str) -> None:
    """Keep what the person is called on the channel. Of an hour's messages, the first costs a statement."""
    seal = salted_hmac("conversations.sessions", username, algorithm="sha256").hexdigest()
    if session.get("username") != seal:
        people.note_username(channel_type=channel, channel_user_id=channel_user_id, username=username)
        _remember(channel, user_id, username=seal)


def is_first(conversation: Conversation) -> bool:
    """Whether its person never had another one on its channel before."""
    before = Conversation.objects.filter(user_id=conversation.user_id, channel=conversation.channel)
    return not before.filter(pk__lt=conversation.pk).exists()


def of_person(channel: str, user_id: UUID) -> str:
    return f"session:{channel}:{user_id}"


def _said_in(mine: QuerySet[Conversation], client_message_id: str) -> Conversation | None:
    if not client_message_id:
        return None
    said = Message.objects.filter(conversation=OuterRef("pk"), client_message_id=client_message_id)
    latest = mine.order_by("-last_activity").values("pk")[:MOST_LOOKED_AT]
    return Conversation.objects.filter(Exists(said), pk__in=latest).order_by("-last_activity").first()


def _kept(mine: QuerySet[Conversation], session: Session) -> Conversation | None:
    kept = session.get("conversation_id")
    return mine.filter(pk=kept, is_active=True).first() if kept else None


def _newest(mine: QuerySet[Conversation]) -> Conversation | None:
    return mine.filter(is_active=True).order_by("-last_activity").first()


def _begin(
    mine: QuerySet[Conversation], begins_anew: bool, *, channel: str, user_id: UUID, client_message_id: str
) -> Conversation:
    """One in which nothing has been said yet. Of several deliveries of one message, the first begins it for all."""
    with transaction.atomic():
        User.objects.select_for_update(no_key=True).filter(pk=user_id).first()
        found = _said_in(mine, client_message_id)
        if found is not None:
            return found
        newest = _newest(mine)
        if newest is not None and (newest.last_sequence == 0 or not begins_anew):
            return newest
        begun = Conversation.objects.create(user_id=user_id, channel=channel)
        live.tell(user_id, live.CREATED, conversation_id=begun.pk)
        return begun


def _remember(channel: str, user_id: UUID, **fields: Any) -> None:
    transaction.on_commit(partial(_store, of_person(channel, user_id), fields), robust=True)


def _store(name: str, fields: dict[str, Any]) -> None:
    client = redis_client()
    if client.is_away:
        return
    pipeline = client.pipeline()
    pipeline.hset(name, mapping=fields)
    pipeline.expire(name, SECONDS)
    try:
        pipeline.execute()
    except redis.RedisError:
        client.leave_alone()
