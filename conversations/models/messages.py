from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from accounts.ids import uuid7
from conversations.models.conversations import Conversation
from inference.models import Request


class Message(models.Model):
    """What was said once. It never changes: to say it otherwise is to say it anew, as a sibling under the same parent.

    The table is partitioned by month, by the time that is in the id (`conversations.partitions`), so a row is found by
    its id in one partition. A trigger sees to what keys cannot: a parent is an earlier message of the same
    conversation, and a client's id is used once in a conversation.
    """

    class Role(models.TextChoices):
        USER = "user"
        ASSISTANT = "assistant"
        SYSTEM = "system"
        TOOL = "tool"

    class Status(models.TextChoices):
        COMPLETE = "complete"
        PARTIAL = "partial", "Partial: the model broke off"
        CANCELLED = "cancelled", "Cancelled: the caller left"

    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    # The index on the conversation and the sequence does for it.
    conversation = models.ForeignKey(Conversation, on_delete=models.CASCADE, db_index=False, related_name="messages")
    sequence = models.PositiveIntegerField(default=0, help_text="The order in which things were said.")
    parent = models.ForeignKey(
        "self",
        on_delete=models.DO_NOTHING,
        null=True,
        db_constraint=False,
        related_name="children",
        help_text="What was said before, on this branch.",
    )
    reply_to = models.ForeignKey(
        "self",
        on_delete=models.DO_NOTHING,
        null=True,
        db_constraint=False,
        related_name="answers",
        help_text="The message that this answers.",
    )
    role = models.CharField(max_length=20, choices=Role.choices)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.COMPLETE)
    content = models.TextField(blank=True)
    tool_calls = models.JSONField(
        default=list, blank=True, help_text="What the assistant wants done, as OpenAI says it."
    )
    tool_call_id = models.CharField(max_length=100, blank=True, help_text="The call that a tool's message answers.")
    client_message_id = models.CharField(max_length=100, blank=True, help_text="The client's own id, used once.")
    model_used = models.CharField(max_length=100, blank=True)
    token_count = models.PositiveIntegerField(null=True)
    request = models.ForeignKey(Request, on_delete=models.SET_NULL, null=True, related_name="messages")
    metadata = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ("id",)
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(role__in=["user", "assistant", "system", "tool"]), name="message_role_known"
            ),
            models.CheckConstraint(
                condition=Q(status__in=["complete", "partial", "cancelled"]), name="message_status_known"
            ),
            models.CheckConstraint(
                condition=Q(reply_to=None) | Q(role="assistant"), name="message_only_assistants_reply"
            ),
            models.CheckConstraint(
                condition=Q(tool_call_id="") | Q(role="tool"), name="message_only_tools_answer_calls"
            ),
            models.CheckConstraint(condition=~Q(parent=F("id")), name="message_not_its_own_parent"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["conversation", "sequence"], name="message_conversation"),
            models.Index(
                fields=["conversation", "client_message_id"],
                condition=~Q(client_message_id=""),
                name="message_client_message_id",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.role}: {self.content[:60]}"
