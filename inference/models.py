"""The metered road's own tables: where models are, and the history of every request."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator, URLValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone

from accounts.encryption import EncryptedTextField
from accounts.ids import uuid7
from accounts.models import ApiKey
from quotas.meters import Resource
from quotas.models import Reservation


class Provider(models.Model):
    """A service that speaks the OpenAI HTTP protocol: OpenAI, Ollama, vLLM, the local model server …"""

    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=100, unique=True)
    base_url = models.CharField(
        "base URL",
        max_length=500,
        validators=[URLValidator(schemes=["http", "https"])],
        help_text="Up to and including /v1, such as https://api.openai.com/v1.",
    )
    api_key = EncryptedTextField("API key", blank=True, help_text="Kept encrypted and never shown again.")
    connect_timeout = models.PositiveSmallIntegerField(
        default=5, validators=[MinValueValidator(1), MaxValueValidator(60)], help_text="Seconds until connected."
    )
    read_timeout = models.PositiveSmallIntegerField(
        default=120,
        validators=[MinValueValidator(1), MaxValueValidator(3600)],
        help_text="Seconds of silence, before the first byte and between two.",
    )
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ("name",)
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(base_url__regex=r"^https?://."), name="provider_base_url_http"),
            models.CheckConstraint(
                condition=Q(connect_timeout__gte=1, read_timeout__gte=1), name="provider_timeouts_positive"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class ModelQuerySet(models.QuerySet["Model"]):
    def usable(self) -> ModelQuerySet:
        return self.filter(is_active=True, provider__is_active=True).select_related("provider")


class Model(models.Model):
    """A public model name, and one place where it is to be had.

    Several rows may carry the same public name: they are tried in `fallback_order`, the next one when a provider fails
    before its first byte. Prices are micro-USD for a million tokens: $0.15 a million is 150,000.
    """

    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=100, help_text="What callers write in `model`.")
    kind = models.CharField(max_length=20, choices=Resource.choices, default=Resource.LLM)
    provider = models.ForeignKey(Provider, on_delete=models.CASCADE, related_name="offered_models")
    upstream_name = models.CharField(max_length=200, help_text="What the provider calls it.")
    fallback_order = models.PositiveSmallIntegerField(default=0, help_text="Lowest first.")
    input_price = models.BigIntegerField(
        default=0, validators=[MinValueValidator(0)], help_text="Micro-USD per million input tokens."
    )
    output_price = models.BigIntegerField(
        default=0, validators=[MinValueValidator(0)], help_text="Micro-USD per million output tokens."
    )
    context_window = models.PositiveIntegerField(null=True, blank=True, help_text="Tokens.")
    max_output_tokens = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Sent as max_tokens, and held, when a caller names no maximum. Empty: the provider decides.",
    )
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(auto_now=True)

    objects = ModelQuerySet.as_manager()

    class Meta:
        ordering = ("name", "fallback_order")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["name", "fallback_order"], name="model_order_unique"),
            models.CheckConstraint(condition=~Q(name="") & ~Q(upstream_name=""), name="model_names_given"),
            models.CheckConstraint(
                condition=Q(input_price__gte=0, output_price__gte=0), name="model_prices_not_negative"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} at {self.provider}"


class Request(models.Model):
    """One piece of metered work, from its hold to its settlement: the request history."""

    class Status(models.TextChoices):
        RUNNING = "running"
        SUCCESS = "success"
        ERROR = "error"
        CANCELLED = "cancelled"

    class Usage(models.TextChoices):
        """Who says how much was used."""

        REPORTED = "reported", "Reported by the provider"
        ESTIMATED = "estimated", "Estimated from the text"
        NONE = "none", "Nothing was used"

    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="requests")
    api_key = models.ForeignKey(ApiKey, on_delete=models.SET_NULL, null=True, related_name="requests")
    reservation = models.OneToOneField(Reservation, on_delete=models.PROTECT, null=True, related_name="request")
    request_type = models.CharField(max_length=20, choices=Resource.choices)
    model = models.CharField(max_length=100)
    provider = models.CharField(max_length=100, blank=True, help_text="Who answered, in the end.")
    is_stream = models.BooleanField(default=False)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.RUNNING)
    error_code = models.CharField(
        max_length=60, blank=True, help_text="client_disconnected, upstream_error, deadline, abandoned, or upstream's."
    )
    error_message = models.TextField(blank=True)
    usage = models.CharField(max_length=10, choices=Usage.choices, default=Usage.NONE)
    input_tokens = models.PositiveIntegerField(default=0)
    output_tokens = models.PositiveIntegerField(default=0)
    seconds = models.PositiveIntegerField(default=0)
    characters = models.PositiveIntegerField(default=0)
    cost = models.BigIntegerField(default=0, help_text="Micro-USD.")
    processing_time = models.PositiveIntegerField(null=True, help_text="Milliseconds, first to last.")
    first_byte_time = models.PositiveIntegerField(null=True, help_text="Milliseconds until the first byte.")
    request_data = models.JSONField(default=dict)
    response_data = models.JSONField(null=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ("-id",)
        permissions: ClassVar = [("view_request_content", "Can read what was asked and answered")]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(status__in=["running", "success", "error", "cancelled"]), name="request_status_known"
            ),
            models.CheckConstraint(
                condition=Q(usage__in=["reported", "estimated", "none"]), name="request_usage_known"
            ),
            models.CheckConstraint(
                condition=Q(status="running", finished_at=None) | (~Q(status="running") & Q(finished_at__isnull=False)),
                name="request_finished_when_ended",
            ),
            models.CheckConstraint(condition=Q(cost__gte=0), name="request_cost_not_negative"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["user", "-id"], name="request_user"),
            models.Index(fields=["created_at"], condition=Q(status="running"), name="request_running"),
        ]

    def __str__(self) -> str:
        return f"{self.request_type} {self.model} {self.status}"
