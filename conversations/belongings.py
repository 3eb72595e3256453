"""What becomes of a user's conversations."""

from __future__ import annotations

from functools import partial
from uuid import UUID

from django.db import transaction

from accounts.belongings import Belonging, Part
from conversations import context
from conversations.models import Conversation, Message


def _erase(user_id: UUID) -> None:
    theirs = Conversation.objects.filter(user_id=user_id)
    # Locked first: an answer that is being appended is here by then, or finds nothing that it could be appended to.
    ids = list(theirs.select_for_update().order_by("pk").values_list("pk", flat=True))
    Message.objects.filter(conversation__user_id=user_id).delete()
    theirs.delete()
    transaction.on_commit(partial(context.forget, ids), robust=True)


BELONGINGS = [
    Belonging(
        model=Conversation,
        section="conversations",
        fields=(
            *("id", "channel", "title", "model_override", "tags", "metadata", "head_id", "is_active", "archived_at"),
            *("pinned_at", "deleted_at", "started_at", "last_activity"),
        ),
        part=Part(
            name="messages",
            model=Message,
            parent="conversation_id",
            fields=(
                *("id", "sequence", "parent_id", "reply_to_id", "role", "status", "content", "tool_calls"),
                *("tool_call_id", "client_message_id", "model_used", "token_count", "request_id", "metadata"),
                "created_at",
            ),
        ),
        erase=_erase,
    )
]
