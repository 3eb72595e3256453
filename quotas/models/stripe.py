"""What Stripe has told us."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from django.db import models
from django.db.models import Q
from django.utils import timezone

from accounts.ids import uuid7


class StripeCustomer(models.Model):
    """How far we know a customer of Stripe's: when the question was asked whose answer was written down last.

    Its row is the lock under which answers about a customer are applied, and it keeps older ones out. It keeps
    out, too, who would open a second checkout while a first one is being opened.
    """

    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    stripe_id = models.CharField(max_length=255, unique=True)
    synced_at = models.DateTimeField(null=True, blank=True)
    busy_until = models.DateTimeField(
        null=True, blank=True, help_text="Until when at most nobody else may open a checkout."
    )
    uncounted = models.JSONField(
        default=list, blank=True, help_text="Subscriptions that are sold, and do not count: the user has another."
    )

    class Meta:
        ordering = ("-id",)
        constraints: ClassVar = [
            models.CheckConstraint(condition=~Q(stripe_id=""), name="stripecustomer_stripe_id_given")
        ]

    def __str__(self) -> str:
        return self.stripe_id


class StripeEvent(models.Model):
    """A webhook event as it came in. It is a hint that a customer has changed; what it says is not believed."""

    class Status(models.TextChoices):
        APPLIED = "applied"
        IGNORED = "ignored"
        FAILED = "failed"

    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    stripe_id = models.CharField("Stripe's id", max_length=255, unique=True)
    type = models.CharField(max_length=255)
    api_version = models.CharField("API version", max_length=50, blank=True)
    customer_id = models.CharField("customer", max_length=255, blank=True, db_index=True)
    payload = models.JSONField()
    status = models.CharField(max_length=10, choices=Status.choices)
    reason = models.TextField(blank=True, help_text="Why it was ignored, or what failed.")
    attempts = models.PositiveIntegerField(default=1)
    created_at = models.DateTimeField("created at Stripe")
    received_at = models.DateTimeField(default=timezone.now, editable=False)
    applied_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-id",)
        constraints: ClassVar = [
            models.CheckConstraint(condition=~Q(stripe_id=""), name="stripeevent_stripe_id_given"),
            models.CheckConstraint(
                condition=Q(status__in=["applied", "ignored", "failed"]), name="stripeevent_status_known"
            ),
            models.CheckConstraint(
                condition=Q(status="applied", applied_at__isnull=False) | (~Q(status="applied") & ~Q(reason="")),
                name="stripeevent_reason_unless_applied",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.stripe_id}"
