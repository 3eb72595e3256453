from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from django.db import models
from django.db.models import Q
from django.utils import timezone

from accounts.encryption import EncryptedTextField
from accounts.ids import uuid7
from accounts.models.users import User


class ChannelIdentity(models.Model):
    """Who a user is on a channel: `discord:1234`. A user may have many; each belongs to one user."""

    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="channel_identities")
    channel_type = models.CharField(max_length=50, help_text="discord, telegram, slack, web or any other name.")
    channel_user_id = models.CharField(max_length=255, help_text="The person's id there.")
    username = EncryptedTextField(blank=True, max_length=255, help_text="The person's name there. Kept encrypted.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        verbose_name_plural = "channel identities"
        ordering = ("-id",)
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["channel_type", "channel_user_id"], name="channelidentity_unique"),
            models.CheckConstraint(
                condition=Q(channel_type__regex=r"^[a-z][a-z0-9_-]*$"), name="channelidentity_type_is_a_name"
            ),
            models.CheckConstraint(condition=~Q(channel_user_id=""), name="channelidentity_id_given"),
        ]
        indexes: ClassVar = [models.Index(fields=["user", "-id"], name="channelidentity_user")]

    def __str__(self) -> str:
        return f"{self.channel_type}:{self.channel_user_id}"
