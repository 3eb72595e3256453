"""Conversations from their beginning to their end, besides what is said in them."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.db import transaction
from django.utils import timezone

from accounts.caller import Caller
from accounts.exceptions import InvalidInput
from conversations import channels, context, live, threads
from conversations.exceptions import ConversationNotFound
from conversations.models import Conversation


def begin(*, by: Caller, channel: str = "", **fields: Any) -> Conversation:
    """A new conversation of the caller's, on the channel that it acts on or, if it acts on none, on the one it names.

    Raises `InvalidInput` for a channel that nobody has configured, and `ChannelOff`.
    """
    if by.acted_by is not None and by.channel != "api":
        channel = by.channel
    elif channel and not channels.is_known(channel):
        raise InvalidInput("There is no such channel.", param="channel", code="unknown_channel")
    channel = channel or by.channel
    channels.channel(channel).check()
    begun = Conversation.objects.create(user_id=by.user_id, channel=channel, **fields)
    live.tell(begun.user_id, live.CREATED, conversation_id=begun.pk)
    return begun


def change(*, conversation: Conversation, **fields: Any) -> Conversation:
    """Set what is given, and nothing else: what is being said meanwhile moves the head. Raises `MessageNotFound`."""
    if "is_active" in fields:
        fields["archived_at"] = None if fields["is_active"] else timezone.now()
    head = fields.pop("head_id", None)
    if head is not None:
        threads.move_head(conversation=conversation, to=head)
    if fields:
        _update(conversation, **fields)
    conversation.refresh_from_db()
    _tell(conversation)
    return conversation


def archive(*, conversation: Conversation, is_archived: bool) -> Conversation:
    """Put it away, or take it up again. When it was archived, it stays so since then."""
    if conversation.is_active == is_archived:
        conversation.is_active, conversation.archived_at = not is_archived, timezone.now() if is_archived else None
        _update(conversation, is_active=conversation.is_active, archived_at=conversation.archived_at)
        _tell(conversation)
    return conversation


def pin(*, conversation: Conversation, is_pinned: bool) -> Conversation:
    if (conversation.pinned_at is not None) != is_pinned:
        conversation.pinned_at = timezone.now() if is_pinned else None
        _update(conversation, pinned_at=conversation.pinned_at)
        _tell(conversation)
    return conversation


def delete(*, conversation: Conversation) -> None:
    """Out of sight at once; it can be restored for CONVERSATION_PURGE_DAYS."""
    _update(conversation, deleted_at=timezone.now())
    transaction.on_commit(partial(context.forget, [conversation.pk]), robust=True)
    _tell(conversation, live.DELETED)


def restore(*, conversation: Conversation) -> Conversation:
    """Undo `delete`. Raises `ConversationNotFound` if it was purged meanwhile."""
    if not Conversation.objects.filter(pk=conversation.pk).exclude(deleted_at=None).update(deleted_at=None):
        raise ConversationNotFound
    conversation.deleted_at = None
    _tell(conversation, live.CREATED)
    return conversation


def _tell(conversation: Conversation, event: str = live.UPDATED) -> None:
    live.tell(conversation.user_id, event, conversation_id=conversation.pk)


def _update(conversation: Conversation, **fields: Any) -> None:
    if not Conversation.objects.alive().filter(pk=conversation.pk).update(**fields):
        raise ConversationNotFound
