"""The metered road's own tables: where models are, and the history of every request."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar
from uuid import UUID

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, URLValidator
from django.db import models
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from accounts.encryption import EncryptedTextField
from accounts.ids import uuid7
from accounts.models import ApiKey
from quotas.meters import Resource
from quotas.models import Reservation

# A thousand dollars a unit: far above any price, and no cost leaves 64 bits.
MOST_PRICE = 10**15


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
    before its first byte.
    """

    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=100, help_text="What callers write in `model`.")
    kind = models.CharField(max_length=20, choices=Resource.choices, default=Resource.LLM)
    provider = models.ForeignKey(Provider, on_delete=models.CASCADE, related_name="offered_models")
    upstream_name = models.CharField(max_length=200, help_text="What the provider calls it.")
    fallback_order = models.PositiveSmallIntegerField(default=0, help_text="Lowest first.")
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
        ]

    def __str__(self) -> str:
        return f"{self.name} at {self.provider}"


class PriceQuerySet(models.QuerySet["Price"]):
    def valid_at(self, instant: datetime) -> PriceQuerySet:
        """The one of each model and unit that is valid at an instant."""
        begun = self.filter(valid_from__lte=instant)
        return begun.order_by("model_id", "unit", "-valid_from").distinct("model_id", "unit")

    def with_state(self, now: datetime) -> PriceQuerySet:
        """With `is_superseded`: whether a later price of the same model and unit is valid at `now`."""
        later = Price.objects.filter(
            model=OuterRef("model"), unit=OuterRef("unit"), valid_from__gt=OuterRef("valid_from"), valid_from__lte=now
        )
        return self.annotate(is_superseded=Exists(later))


def this_second() -> datetime:
    """Now, as exactly as forms and files can say it."""
    return timezone.now().replace(microsecond=0)


class Price(models.Model):
    """What a model takes for a unit, from an instant on until its next price for this unit; without any, nothing.

    A price that is valid, or was, stays as it is: it says what calls were charged by.
    """

    class Unit(models.TextChoices):
        INPUT_TOKENS = "input_tokens", "Input tokens"
        CACHED_INPUT_TOKENS = "cached_input_tokens", "Cached input tokens"
        OUTPUT_TOKENS = "output_tokens", "Output tokens"
        CHARACTERS = "characters", "Characters"
        SECONDS = "seconds", "Seconds"
        REQUESTS = "requests", "Requests"

    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="prices")
    unit = models.CharField(max_length=20, choices=Unit.choices)
    price = models.BigIntegerField(
        validators=[MinValueValidator(0), MaxValueValidator(MOST_PRICE)],
        help_text="Micro-USD for a million units: $0.15 for a million tokens is 150,000; $0.006 for a minute of speech "
        "is 100 micro-USD a second, which is 100,000,000.",
    )
    valid_from = models.DateTimeField(default=this_second, help_text="UTC. Until the next price for this unit.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = PriceQuerySet.as_manager()

    class Meta:
        ordering = ("model", "unit", "valid_from")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["model", "unit", "valid_from"], name="price_instant_unique"),
            models.CheckConstraint(
                condition=Q(
                    unit__in=[
                        *("input_tokens", "cached_input_tokens", "output_tokens"),
                        *("characters", "seconds", "requests"),
                    ]
                ),
                name="price_unit_known",
            ),
            models.CheckConstraint(condition=Q(price__gte=0, price__lte=MOST_PRICE), name="price_in_range"),
        ]

    def __str__(self) -> str:
        return f"{self.get_unit_display()} from {self.valid_from:%Y-%m-%d %H:%M:%S}"

    def has_begun(self, now: datetime | None = None) -> bool:
        """Whether the price is valid at `now`, or has been."""
        return self.valid_from <= (now or timezone.now())

    def clean(self) -> None:
        """Refuse what would rewrite the past: to change a price that has begun, or to put one before it."""
        now = timezone.now()
        stored = Price.objects.filter(pk=self.pk).first()
        if stored is not None and stored.has_begun(now) and stored.terms != self.terms:
            raise ValidationError("This price is valid already, so it stays as it is. Add a new one.")
        begun = Price.objects.filter(model_id=self.model_id, unit=self.unit, valid_from__lte=now).exclude(pk=self.pk)
        latest = begun.order_by("-valid_from").first()
        if latest is not None and self.valid_from < latest.valid_from and (stored is None or not stored.has_begun(now)):
            raise ValidationError(
                {"valid_from": f"Since {latest.valid_from:%Y-%m-%d %H:%M:%S} another price is valid: begin after that."}
            )

    @property
    def terms(self) -> tuple[UUID, str, int, datetime]:
        return self.model_id, self.unit, self.price, self.valid_from


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
    cached_input_tokens = models.PositiveIntegerField(
        default=0, help_text="Of the input tokens, those that the provider had in its cache."
    )
    output_tokens = models.PositiveIntegerField(default=0)
    seconds = models.PositiveIntegerField(default=0)
    characters = models.PositiveIntegerField(default=0)
    cost = models.BigIntegerField(default=0, help_text="Micro-USD.")
    processing_time = models.PositiveIntegerField(null=True, help_text="Milliseconds, first to last.")
    first_byte_time = models.PositiveIntegerField(null=True, help_text="Milliseconds until the first byte.")
    prompt_version_id = models.UUIDField(
        "prompt version",
        null=True,
        blank=True,
        help_text="The version of a prompt template that ran: a plain value, for templates stand above this "
        "application.",
    )
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
            models.Index(
                fields=["prompt_version_id", "-id"],
                condition=Q(prompt_version_id__isnull=False),
                name="request_prompt",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.request_type} {self.model} {self.status}"
