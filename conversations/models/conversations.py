from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import Q
from django.utils import timezone

from accounts.ids import uuid7

MOST_TAGS = 20


class ConversationQuerySet(models.QuerySet["Conversation"]):
    def alive(self) -> ConversationQuerySet:
        return self.filter(deleted_at=None)

    def of(self, user_id: UUID) -> ConversationQuerySet:
        return self.alive().filter(user_id=user_id)


class Conversation(models.Model):
    """A tree of messages, of which the branch that ends at `head` is the current one.

    Whoever adds a message takes the next sequence number from here, under the lock of this row: that is the order in
    which things were said, also when several people write at once.
    """

    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="conversations")
    channel = models.CharField(max_length=50, default="api")
    title = models.CharField(max_length=200, blank=True)
    model_override = models.CharField(max_length=100, blank=True)
    tags = ArrayField(models.CharField(max_length=50), default=list, blank=True)
    metadata = models.JSONField(default=dict, blank=True)
    # In the database, no key: partitions of messages are dropped whole.
    head = models.ForeignKey(
        "Message",
        on_delete=models.DO_NOTHING,
        null=True,
        editable=False,
        db_constraint=False,
        db_index=False,
        related_name="+",
        help_text="The last message of the current branch.",
    )
    last_sequence = models.PositiveIntegerField(default=0, editable=False)
    is_active = models.BooleanField(default=True, editable=False)
    archived_at = models.DateTimeField(null=True, editable=False)
    pinned_at = models.DateTimeField(null=True, editable=False)
    deleted_at = models.DateTimeField(null=True, editable=False, help_text="Purged CONVERSATION_PURGE_DAYS later.")
    started_at = models.DateTimeField(default=timezone.now, editable=False)
    last_activity = models.DateTimeField(default=timezone.now, editable=False)

    objects = ConversationQuerySet.as_manager()

    class Meta:
        ordering = ("-id",)
        constraints: ClassVar = [
            models.CheckConstraint(condition=~Q(channel=""), name="conversation_channel_given"),
            models.CheckConstraint(
                condition=Q(archived_at=None, is_active=True) | Q(archived_at__isnull=False, is_active=False),
                name="conversation_archived_is_inactive",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["user", "-id"], name="conversation_user"),
            models.Index(fields=["user", "-last_activity"], name="conversation_recent"),
            models.Index(fields=["last_activity"], name="conversation_last_activity"),
            models.Index(fields=["deleted_at"], condition=Q(deleted_at__isnull=False), name="conversation_deleted"),
            GinIndex(fields=["tags"], name="conversation_tags"),
        ]

    def __str__(self) -> str:
        return self.title or f"Conversation {self.id}"
