"""How conversations are led on a channel."""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone

from accounts.encryption import EncryptedTextField
from accounts.ids import uuid7
from prompts.models import PromptTemplate
from prompts.models.templates import DEFAULT_LABEL, LABEL_PATTERN
from quotas.windows import CHANNEL, validate_rate_limits

CHANNEL_PATTERN = "[a-z0-9][a-z0-9_-]{0,49}"
MOST_CONTEXT_MESSAGES = 200
DEFAULT_CONTEXT_MESSAGES = 20


def validate_channel_rates(value: Any) -> None:
    """`ValidationError` unless it has the shape `{"requests": {"minute": 60}, "tokens": {"day": 100000}}`."""
    validate_rate_limits({CHANNEL: value})


class ChannelConfig(models.Model):
    """One channel by its name. A channel without a row works too: with nothing of its own."""

    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(
        max_length=50,
        unique=True,
        validators=[RegexValidator(f"^{CHANNEL_PATTERN}\\Z", "Small letters, digits, - and _.")],
        help_text="What stands before the colon in X-On-Behalf-Of, such as discord.",
    )
    default_model = models.CharField(
        max_length=100, blank=True, help_text="Asked where neither the call, the conversation nor the user names one."
    )
    system_prompt = models.TextField(blank=True, help_text="Goes before every context. Empty: nothing does.")
    prompt_template = models.ForeignKey(
        PromptTemplate,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        help_text="Takes the place of the system prompt.",
    )
    prompt_label = models.CharField(
        max_length=64, default=DEFAULT_LABEL, validators=[RegexValidator(f"^{LABEL_PATTERN}\\Z")]
    )
    temperature = models.FloatField(
        null=True,
        blank=True,
        validators=[MinValueValidator(0), MaxValueValidator(2)],
        help_text="0 to 2. Empty: the model server decides.",
    )
    top_p = models.FloatField(
        "top-p", null=True, blank=True, validators=[MinValueValidator(0), MaxValueValidator(1)], help_text="0 to 1."
    )
    max_tokens = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1)], help_text="Of an answer."
    )
    context_messages = models.PositiveSmallIntegerField(
        default=DEFAULT_CONTEXT_MESSAGES,
        validators=[MinValueValidator(1), MaxValueValidator(MOST_CONTEXT_MESSAGES)],
        help_text="So many of the latest messages go with a new one.",
    )
    context_tokens = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="The most tokens of a context. Empty: as many as the model can take.",
    )
    rate_limits = models.JSONField(
        default=dict,
        blank=True,
        validators=[validate_channel_rates],
        help_text='Replies to all people on the channel together, such as {"requests": {"minute": 600}}. What a plan '
        "allows to each of its subscribers' channels counts besides.",
    )
    welcome_text = models.TextField(blank=True, help_text="For whoever begins a conversation.")
    quota_text = models.TextField(blank=True, help_text="Where a quota is exhausted.")
    rate_limit_text = models.TextField(blank=True, help_text="Where somebody writes too fast.")
    model_down_text = models.TextField(blank=True, help_text="Where no model answers.")
    off_text = models.TextField("text while off", blank=True, help_text="While the channel is switched off.")
    credentials = EncryptedTextField(blank=True, help_text="Of the platform. Kept encrypted and never shown again.")
    is_active = models.BooleanField(default=True, help_text="Off: nothing new is said on this channel.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name = "channel"
        ordering = ("name",)
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(name__regex=f"^{CHANNEL_PATTERN}$"), name="channelconfig_name_plain"),
            models.CheckConstraint(
                condition=Q(temperature=None) | Q(temperature__gte=0, temperature__lte=2),
                name="channelconfig_temperature_in_range",
            ),
            models.CheckConstraint(
                condition=Q(top_p=None) | Q(top_p__gte=0, top_p__lte=1), name="channelconfig_top_p_in_range"
            ),
            models.CheckConstraint(
                condition=Q(context_messages__gte=1, context_messages__lte=MOST_CONTEXT_MESSAGES),
                name="channelconfig_context_in_range",
            ),
            models.CheckConstraint(
                condition=~Q(max_tokens=0) & ~Q(context_tokens=0), name="channelconfig_tokens_positive"
            ),
        ]

    def __str__(self) -> str:
        return self.name
