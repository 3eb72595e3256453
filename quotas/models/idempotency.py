"""What came of calls that their callers may send again."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from accounts.ids import uuid7


class IdempotencyRecord(models.Model):
    """The answer to a call that came with an `Idempotency-Key`; while the call is `running`, that there is one.

    `fingerprint` is the SHA-256 of all that was asked, in hexadecimal. A record that is `done` without a body is of an
    answer that was too large to keep. Where the call is one on the metered road, its reservation has the same `id`.
    """

    class Status(models.TextChoices):
        RUNNING = "running"
        DONE = "done"

    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, db_index=False, related_name="idempotency_records"
    )
    key = models.CharField(max_length=255)
    endpoint = models.CharField(max_length=200, help_text="Method and path.")
    fingerprint = models.CharField(max_length=64)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.RUNNING)
    response_status = models.PositiveSmallIntegerField(null=True)
    headers = models.JSONField(default=dict)
    body = models.BinaryField(null=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField()

    class Meta:
        ordering = ("-id",)
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["user", "key"], name="idempotencyrecord_unique"),
            models.CheckConstraint(condition=Q(status__in=["running", "done"]), name="idempotencyrecord_status_known"),
            models.CheckConstraint(
                condition=Q(status="running", response_status=None, body=None)
                | (~Q(status="running") & Q(response_status__isnull=False)),
                name="idempotencyrecord_answered_when_done",
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["expires_at"], name="idempotencyrecord_expires_at")]

    def __str__(self) -> str:
        return f"{self.endpoint} {self.status}"
