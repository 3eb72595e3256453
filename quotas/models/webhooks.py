"""Who is told of events over HTTP, and how it went."""

from __future__ import annotations

import base64
import secrets
from datetime import datetime
from typing import ClassVar
from uuid import UUID

from django.contrib.postgres.fields import ArrayField
from django.core.validators import URLValidator
from django.db import models
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from accounts.encryption import EncryptedTextField
from accounts.ids import uuid7
from quotas.models.events import Event
from quotas.receivers import check_url

SECRET_MARK = "whsec_"  # noqa: S105
SECRET_BYTES = 24


def new_secret() -> str:
    """A signing secret in the form of the Standard Webhooks specification."""
    return SECRET_MARK + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


class WebhookEndpointQuerySet(models.QuerySet["WebhookEndpoint"]):
    def free(self, now: datetime) -> WebhookEndpointQuerySet:
        """Those that are to be sent to, and that no worker is sending to."""
        return self.filter(Q(busy_until=None) | Q(busy_until__lte=now), is_active=True)

    def with_due(self, now: datetime) -> WebhookEndpointQuerySet:
        return self.filter(Exists(WebhookDelivery.objects.due(now).filter(endpoint=OuterRef("pk"))))


class WebhookEndpoint(models.Model):
    """An address that operators want events sent to.

    After a rotation the secret before signs too, until `previous_expires_at`. `busy_until` is the lease of the worker
    that is sending to it: one at a time, so that an address that hangs holds one thread and not all of them.
    """

    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    url = models.CharField(
        "URL",
        max_length=500,
        validators=[URLValidator(schemes=["http", "https"]), check_url],
        help_text="Gets a POST for each event, such as https://example.com/hooks/mainstay.",
    )
    description = models.CharField(max_length=200, blank=True)
    event_types = ArrayField(
        models.CharField(max_length=50, choices=Event.Type.choices),
        default=list,
        blank=True,
        help_text="None chosen: all of them, also those of later versions.",
    )
    secret = EncryptedTextField(default=new_secret, editable=False)
    previous_secret = EncryptedTextField(blank=True, editable=False)
    previous_expires_at = models.DateTimeField(null=True, blank=True, editable=False)
    is_active = models.BooleanField(
        default=True, help_text="Off: nothing is sent, and what happens meanwhile is not sent later."
    )
    disabled_reason = models.CharField(max_length=200, blank=True, editable=False)
    busy_until = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(auto_now=True)

    objects = WebhookEndpointQuerySet.as_manager()

    class Meta:
        ordering = ("id",)
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(url__regex=r"^https?://."), name="webhookendpoint_url_http"),
            models.CheckConstraint(
                condition=~Q(url__regex=r"^https?://[^/?#]*@"), name="webhookendpoint_url_no_credentials"
            ),
            models.CheckConstraint(
                condition=Q(
                    event_types__contained_by=[
                        "quota.soft_limit_reached",
                        "quota.limit_reached",
                        "subscription.changed",
                        "webhook.test",
                    ]
                ),
                name="webhookendpoint_types_known",
            ),
            models.CheckConstraint(condition=~Q(secret=""), name="webhookendpoint_secret_given"),
            models.CheckConstraint(
                condition=Q(previous_secret="", previous_expires_at=None)
                | (~Q(previous_secret="") & Q(previous_expires_at__isnull=False)),
                name="webhookendpoint_previous_whole",
            ),
            models.CheckConstraint(
                condition=Q(is_active=False) | Q(disabled_reason=""), name="webhookendpoint_active_has_no_reason"
            ),
        ]

    def __str__(self) -> str:
        return self.url

    def wants(self, event_type: str) -> bool:
        return not self.event_types or event_type in self.event_types

    def secrets(self, now: datetime) -> list[str]:
        """Those that sign at `now`, the present one first."""
        overlaps = self.previous_expires_at is not None and self.previous_expires_at > now
        return [self.secret, self.previous_secret] if overlaps else [self.secret]


class WebhookDeliveryQuerySet(models.QuerySet["WebhookDelivery"]):
    def due(self, now: datetime) -> WebhookDeliveryQuerySet:
        return self.filter(status=WebhookDelivery.Status.PENDING, next_attempt_at__lte=now)

    def dead(self) -> WebhookDeliveryQuerySet:
        return self.filter(status=WebhookDelivery.Status.DEAD)


class WebhookDelivery(models.Model):
    """One event on its way to one endpoint.

    While an attempt runs, `next_attempt_at` is the end of its lease: if the worker is lost, the delivery is due again
    then. `attempts` counts from the last replay.
    """

    class Status(models.TextChoices):
        PENDING = "pending"
        DELIVERED = "delivered"
        DEAD = "dead"

    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    endpoint = models.ForeignKey(WebhookEndpoint, on_delete=models.CASCADE, related_name="deliveries")
    event = models.ForeignKey(Event, on_delete=models.CASCADE, related_name="deliveries")
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.PENDING)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_attempt_at = models.DateTimeField(default=timezone.now)
    last_attempt_at = models.DateTimeField(null=True)
    last_status_code = models.PositiveSmallIntegerField(null=True)
    last_error = models.CharField(max_length=200, blank=True)
    delivered_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = WebhookDeliveryQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "webhook deliveries"
        ordering = ("-id",)
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["endpoint", "event"], name="webhookdelivery_once"),
            models.CheckConstraint(
                condition=Q(status__in=["pending", "delivered", "dead"]), name="webhookdelivery_status_known"
            ),
            models.CheckConstraint(
                condition=Q(status="delivered", delivered_at__isnull=False)
                | (~Q(status="delivered") & Q(delivered_at=None)),
                name="webhookdelivery_delivered_when_it_says",
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["endpoint", "next_attempt_at"], condition=Q(status="pending"), name="webhookdelivery_pending"
            ),
        ]

    def __str__(self) -> str:
        return f"delivery {self.pk}"
