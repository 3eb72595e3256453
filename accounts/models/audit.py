from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from django.db import models
from django.db.models import Q
from django.utils import timezone

from accounts.ids import uuid7


class AuditEvent(models.Model):
    """Who did what to whom. The database refuses to change or delete a row (trigger in migrations 0002 and 0004).

    `actor` and `target` are kept as plain values, not foreign keys, so that a record outlives what it speaks of. The
    one change that the trigger lets through blanks `actor_email`, `ip` and `user_agent`: that is how an erased user's
    personal data leave the record.
    """

    class Status(models.TextChoices):
        SUCCESS = "success"
        FAILURE = "failure"

    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    actor_id = models.UUIDField(null=True)
    actor_email = models.CharField(max_length=254, blank=True)
    action = models.CharField(max_length=80)
    target_type = models.CharField(max_length=80, blank=True)
    target_id = models.CharField(max_length=64, blank=True)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.SUCCESS)
    ip = models.GenericIPAddressField(null=True)
    user_agent = models.CharField(max_length=300, blank=True)
    metadata = models.JSONField(default=dict)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ("-id",)
        constraints: ClassVar = [
            models.CheckConstraint(condition=~Q(action=""), name="auditevent_action_given"),
            models.CheckConstraint(condition=Q(status__in=["success", "failure"]), name="auditevent_status_known"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["actor_id", "-id"], name="auditevent_actor"),
            models.Index(fields=["target_type", "target_id", "-id"], name="auditevent_target"),
            models.Index(fields=["action", "-id"], name="auditevent_action"),
            models.Index(fields=["actor_email", "-id"], condition=~Q(actor_email=""), name="auditevent_email"),
        ]

    def __str__(self) -> str:
        return f"{self.action} by {self.actor_email or 'nobody'}"
