"""Plans, and what they allow."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Func, Q
from django.utils import timezone

from accounts.ids import uuid7
from quotas.meters import Cycle, Period, Resource, Unit, each
from quotas.windows import validate_rate_limits

# Objects three levels deep, and then numbers of at least 1. `quotas.windows` knows which names there may be.
RATE_LIMITS_ARE_COUNTS = Func(
    F("rate_limits"),
    template="""coalesce(jsonb_path_match(%(expressions)s, 'strict $.type() == "object"
        && !exists($.* ? (@.type() != "object")) && !exists($.*.* ? (@.type() != "object"))
        && !exists($.*.*.* ? (@.type() != "number" || @ < 1))', silent => true), false)""",
    output_field=models.BooleanField(),
)


class Plan(models.Model):
    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    slug = models.SlugField(max_length=50, unique=True)
    name = models.CharField(max_length=100)
    description = models.TextField(blank=True)
    stripe_price_id = models.CharField(max_length=255, null=True, blank=True, unique=True)
    rate_limits = models.JSONField(
        default=dict,
        blank=True,
        validators=[validate_rate_limits],
        help_text="How many requests and tokens a second, minute, hour or day may have, see `quotas.windows`.",
    )
    features = models.JSONField(default=dict, blank=True)
    conversation_retention_days = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(36500)],
        help_text="How many days after the last message a conversation is kept. Empty: for ever.",
    )
    is_active = models.BooleanField(default=True, help_text="Offered to users. Subscribers keep an inactive plan.")
    is_default = models.BooleanField(default=False, help_text="New users get it. Exactly one plan is the default.")
    limits_changed_at = models.DateTimeField(
        null=True, editable=False, help_text="Set until every subscriber's quotas follow the changed limits."
    )
    position = models.PositiveSmallIntegerField(
        default=0, help_text="Order in lists, lowest first. To move to a higher one is an upgrade."
    )
    trial_days = models.PositiveSmallIntegerField(
        default=0,
        validators=[MaxValueValidator(730)],
        help_text="How long somebody who buys it for the first time may try it. 0: no trial.",
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ("position", "slug")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["is_default"], condition=Q(is_default=True), name="plan_one_default"),
            models.CheckConstraint(condition=~Q(slug=""), name="plan_slug_given"),
            # Stripe's longest trial is two years.
            models.CheckConstraint(condition=Q(trial_days__lte=730), name="plan_trial_within_two_years"),
            models.CheckConstraint(
                condition=Q(conversation_retention_days=None)
                | Q(conversation_retention_days__gte=1, conversation_retention_days__lte=36500),
                name="plan_retention_within_a_century",
            ),
            models.CheckConstraint(condition=RATE_LIMITS_ARE_COUNTS, name="plan_rate_limits_positive"),
        ]

    def __str__(self) -> str:
        return self.name


class LimitFields(models.Model):
    """What a plan's limit and a user's quota have in common."""

    resource_type = models.CharField(max_length=20, choices=Resource.choices)
    unit = models.CharField(max_length=20, choices=Unit.choices)
    period = models.CharField(max_length=10, choices=Period.choices, default=Period.MONTH)
    soft_threshold = models.PositiveSmallIntegerField(
        default=80,
        validators=[MinValueValidator(1), MaxValueValidator(100)],
        help_text="Percent of the limit at which the user is warned.",
    )
    overage_allowed = models.BooleanField(default=False, help_text="Calls over the limit are let through and counted.")

    class Meta:
        abstract = True


CYCLE_HELP = "Calendar periods begin at midnight (UTC), on Mondays, on the first; others with the subscription."


class PlanLimit(LimitFields):
    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    plan = models.ForeignKey(Plan, on_delete=models.CASCADE, related_name="limits")
    limit = models.BigIntegerField(validators=[MinValueValidator(0)])
    cycle = models.CharField(max_length=20, choices=Cycle.choices, default=Cycle.CALENDAR, help_text=CYCLE_HELP)

    class Meta:
        ordering = ("resource_type", "unit", "period")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["plan", "resource_type", "unit", "period"], name="planlimit_unique"),
            models.CheckConstraint(condition=Q(limit__gte=0), name="planlimit_not_negative"),
            models.CheckConstraint(
                condition=Q(soft_threshold__gte=1, soft_threshold__lte=100), name="planlimit_threshold_percent"
            ),
            models.CheckConstraint(condition=Q(cycle__in=Cycle.values), name="planlimit_cycle_known"),
        ]

    def __str__(self) -> str:
        return f"{self.limit} {self.resource_type}.{self.unit} {each(self.period)}"
