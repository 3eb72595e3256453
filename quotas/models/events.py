"""What happened that people or other systems are told of."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from accounts.ids import uuid7
from quotas.models.quotas import Quota


class EventQuerySet(models.QuerySet["Event"]):
    def waiting(self) -> EventQuerySet:
        """Those that nobody has been told of yet, oldest first."""
        return self.filter(dispatched_at=None).order_by("id")


class Event(models.Model):
    """Something that happened to a user. It is written in the transaction in which it happens, and told of later.

    An event of a quota exists once for each period, which `reset_date` ends. Neither foreign key is a constraint of the
    database: checking one would lock the user's row after the quota's, against the order that merging relies on. Who
    writes an event of a quota has the quota locked, and so knows whose it is; all other events follow merges.
    """

    class Type(models.TextChoices):
        SOFT_LIMIT_REACHED = "quota.soft_limit_reached", "soft threshold reached"
        LIMIT_REACHED = "quota.limit_reached", "limit reached"
        SUBSCRIPTION_CHANGED = "subscription.changed", "subscription changed"
        TEST = "webhook.test", "test of an endpoint"

    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    type = models.CharField(max_length=50, choices=Type.choices)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, db_constraint=False, related_name="events"
    )
    quota = models.ForeignKey(
        Quota, on_delete=models.SET_NULL, null=True, db_constraint=False, db_index=False, related_name="events"
    )
    reset_date = models.DateTimeField(null=True)
    payload = models.JSONField(default=dict)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    dispatched_at = models.DateTimeField(null=True)

    objects = EventQuerySet.as_manager()

    class Meta:
        ordering = ("-id",)
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["quota", "type", "reset_date"],
                condition=Q(quota__isnull=False),
                nulls_distinct=False,
                name="event_once_a_period",
            ),
            models.CheckConstraint(
                condition=Q(
                    type__in=[
                        "quota.soft_limit_reached",
                        "quota.limit_reached",
                        "subscription.changed",
                        "webhook.test",
                    ]
                ),
                name="event_type_known",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["id"], condition=Q(dispatched_at=None), name="event_waiting"),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.pk}"
