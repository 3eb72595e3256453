"""What callers send, kept for the next time."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from accounts.ids import uuid7


class SavedPrompt(models.Model):
    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="saved_prompts")
    title = models.CharField(max_length=200)
    content = models.TextField()
    is_favourite = models.BooleanField(default=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ("-id",)
        constraints: ClassVar = [
            models.CheckConstraint(condition=~Q(title="") & ~Q(content=""), name="savedprompt_not_empty")
        ]
        indexes: ClassVar = [models.Index(fields=["user", "-id"], name="savedprompt_user")]

    def __str__(self) -> str:
        return self.title
