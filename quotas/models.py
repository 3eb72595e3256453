"""What callers may use: plans, subscriptions, quotas and the holds on them."""

from __future__ import annotations

import secrets
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar
from uuid import UUID

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Cast, Length
from django.db.models.lookups import LessThanOrEqual
from django.utils import timezone

from accounts.ids import uuid7
from accounts.models import ApiKey
from accounts.people import CHANNEL_TYPE
from quotas.flag_values import LARGEST, LONGEST, check_value
from quotas.meters import Meter, Period, Resource, Unit


class Plan(models.Model):
    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    slug = models.SlugField(max_length=50, unique=True)
    name = models.CharField(max_length=100)
    description = models.TextField(blank=True)
    stripe_price_id = models.CharField(max_length=255, null=True, blank=True, unique=True)
    rate_limits = models.JSONField(default=dict, blank=True)
    features = models.JSONField(default=dict, blank=True)
    is_active = models.BooleanField(default=True, help_text="Offered to users. Subscribers keep an inactive plan.")
    is_default = models.BooleanField(default=False, help_text="New users get it. Exactly one plan is the default.")
    position = models.PositiveSmallIntegerField(default=0, help_text="Order in lists, lowest first.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ("position", "slug")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["is_default"], condition=Q(is_default=True), name="plan_one_default"),
            models.CheckConstraint(condition=~Q(slug=""), name="plan_slug_given"),
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


class PlanLimit(LimitFields):
    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    plan = models.ForeignKey(Plan, on_delete=models.CASCADE, related_name="limits")
    limit = models.BigIntegerField(validators=[MinValueValidator(0)])

    class Meta:
        ordering = ("resource_type", "unit", "period")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["plan", "resource_type", "unit", "period"], name="planlimit_unique"),
            models.CheckConstraint(condition=Q(limit__gte=0), name="planlimit_not_negative"),
            models.CheckConstraint(
                condition=Q(soft_threshold__gte=1, soft_threshold__lte=100), name="planlimit_threshold_percent"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.limit} {self.resource_type}.{self.unit} a {self.period}"


class SubscriptionQuerySet(models.QuerySet["Subscription"]):
    def live(self) -> SubscriptionQuerySet:
        return self.exclude(status=Subscription.Status.CANCELED)


class Subscription(models.Model):
    """Which plan a user is on. A user has at most one subscription that has not ended."""

    class Status(models.TextChoices):
        TRIALING = "trialing"
        ACTIVE = "active"
        PAST_DUE = "past_due"
        CANCELED = "canceled"

    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="subscriptions")
    plan = models.ForeignKey(Plan, on_delete=models.PROTECT, related_name="subscriptions")
    stripe_subscription_id = models.CharField(max_length=255, null=True, blank=True, unique=True)
    status = models.CharField(max_length=20, choices=Status.choices, default=Status.ACTIVE)
    current_period_start = models.DateTimeField(default=timezone.now)
    current_period_end = models.DateTimeField(null=True, blank=True)
    canceled_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(auto_now=True)

    objects = SubscriptionQuerySet.as_manager()

    class Meta:
        ordering = ("-id",)
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["user"], condition=~Q(status="canceled"), name="subscription_one_live"),
            models.CheckConstraint(
                condition=Q(status__in=["trialing", "active", "past_due", "canceled"]),
                name="subscription_status_known",
            ),
            models.CheckConstraint(
                condition=Q(current_period_end=None) | Q(current_period_end__gt=F("current_period_start")),
                name="subscription_period_forward",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user} on {self.plan} ({self.status})"


class QuotaQuerySet(models.QuerySet["Quota"]):
    def due_for_reset(self, now: datetime) -> QuotaQuerySet:
        return self.filter(reset_date__lte=now)

    def of_user(self, user_id: UUID) -> QuotaQuerySet:
        """The user's own quotas, without the budgets of the user's keys."""
        return self.filter(user_id=user_id, api_key=None)

    def of_key(self, key_id: UUID) -> QuotaQuerySet:
        return self.filter(api_key_id=key_id)


class Quota(LimitFields):
    """What one user may use of one meter in one period; with an `api_key`, the budget of that key alone.

    A budget counts what its key uses, for whomever the key calls. It only bounds: what the user has no quota for, it
    does not let in. Its `user` is the key's owner.

    `limit` is what counts until `reset_date`: `base_limit`, which each period starts with, plus what was `granted` in
    this one; or, where that was lowered under what is used and held already, just that, so nothing more is admitted.
    The database holds `current_usage + held <= limit`.
    """

    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="quotas")
    api_key = models.ForeignKey(
        ApiKey,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        editable=False,
        db_index=False,
        related_name="budgets",
        help_text="Whose budget this is. Empty: the user's own quota.",
    )
    base_limit = models.BigIntegerField(validators=[MinValueValidator(0)], help_text="What each period starts with.")
    limit = models.BigIntegerField(validators=[MinValueValidator(0)], help_text="What counts until the next reset.")
    granted = models.BigIntegerField(default=0, editable=False, help_text="Part of the limit; gone at the next reset.")
    current_usage = models.BigIntegerField(default=0, editable=False)
    held = models.BigIntegerField(default=0, editable=False, help_text="Reserved by calls that are still running.")
    reset_date = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(auto_now=True)

    objects = QuotaQuerySet.as_manager()

    class Meta:
        ordering = ("user", "resource_type", "unit", "period")
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["user", "api_key", "resource_type", "unit", "period"],
                nulls_distinct=False,
                name="quota_unique",
            ),
            models.CheckConstraint(condition=Q(limit__gte=0, base_limit__gte=0), name="quota_limit_not_negative"),
            models.CheckConstraint(condition=Q(current_usage__gte=0), name="quota_usage_not_negative"),
            models.CheckConstraint(condition=Q(held__gte=0), name="quota_held_not_negative"),
            models.CheckConstraint(condition=Q(granted__gte=0), name="quota_granted_not_negative"),
            models.CheckConstraint(
                condition=Q(overage_allowed=True) | Q(limit__gte=F("current_usage") + F("held")),
                name="quota_not_overspent",
            ),
            models.CheckConstraint(
                condition=Q(period="none", reset_date=None) | (~Q(period="none") & Q(reset_date__isnull=False)),
                name="quota_reset_as_period_says",
            ),
            models.CheckConstraint(
                condition=Q(soft_threshold__gte=1, soft_threshold__lte=100), name="quota_threshold_percent"
            ),
            models.CheckConstraint(
                condition=Q(api_key=None) | Q(base_limit__gt=0, granted=0, overage_allowed=False),
                name="quota_budget_is_plain",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["reset_date"], name="quota_reset_date"),
            models.Index(fields=["api_key"], condition=Q(api_key__isnull=False), name="quota_api_key"),
        ]

    def __str__(self) -> str:
        return f"{self.resource_type}.{self.unit} a {self.period}"

    @property
    def meter(self) -> Meter:
        return Meter(self.resource_type, self.unit)

    @property
    def remaining(self) -> int:
        return max(0, self.limit - self.current_usage - self.held)

    def is_due(self, now: datetime) -> bool:
        """Whether its period is over, so that what it says is of the past."""
        return self.reset_date is not None and self.reset_date <= now


class ReservationQuerySet(models.QuerySet["Reservation"]):
    def of_client(self, user_id: UUID) -> ReservationQuerySet:
        return self.filter(user_id=user_id, by_client=True)

    def expired(self, now: datetime) -> ReservationQuerySet:
        return self.filter(status=Reservation.Status.HELD, expires_at__lte=now)


class Reservation(models.Model):
    """A hold of amounts on a user's quotas, until it is confirmed with what was really used, released, or expires.

    `amounts` (asked for) and `used` (in the end) are keyed by meter, `{"llm.tokens": 120}`; `holds` and `charged` by
    the quota that carried them. `charged` is less than `used` only where the rest of the quota was smaller than the
    overrun.
    """

    class Status(models.TextChoices):
        HELD = "held"
        CONFIRMED = "confirmed"
        RELEASED = "released"
        EXPIRED = "expired"

    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="reservations")
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.HELD)
    amounts = models.JSONField()
    holds = models.JSONField()
    used = models.JSONField(null=True)
    charged = models.JSONField(null=True)
    idempotency_key = models.CharField(max_length=255, null=True)
    by_client = models.BooleanField(
        default=False, help_text="Made over the API, and ended there. Holds of metered calls are out of its reach."
    )
    expires_at = models.DateTimeField()
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    settled_at = models.DateTimeField(null=True)

    objects = ReservationQuerySet.as_manager()

    class Meta:
        ordering = ("-id",)
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["user", "idempotency_key"], name="reservation_idempotent"),
            models.CheckConstraint(
                condition=Q(status__in=["held", "confirmed", "released", "expired"]), name="reservation_status_known"
            ),
            models.CheckConstraint(
                condition=Q(status="held", settled_at=None) | (~Q(status="held") & Q(settled_at__isnull=False)),
                name="reservation_settled_when_ended",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["expires_at"], condition=Q(status="held"), name="reservation_held"),
        ]

    def __str__(self) -> str:
        return f"{self.status} {self.amounts}"


# Neither a colon nor a space: what is hashed is joined by colons.
FLAG_NAME = r"^[a-z][a-z0-9_-]*\Z"
flag_name = RegexValidator(FLAG_NAME, "Lower-case letters, digits, _ and -, with a letter first.")
MOST_WEIGHT = 10_000


def new_salt() -> str:
    return secrets.token_hex(8)


def on() -> bool:
    return True


def one_value(field: str, name: str) -> models.CheckConstraint:
    """The field holds true or false, a number or a short text, as `check_value` has it: no null, list or object."""
    is_one = models.Func(
        F(field),
        template="jsonb_path_match(%(expressions)s, "
        """'$.type() == "boolean" || $.type() == "string" """
        f"""|| ($.type() == "number" && $ >= -{LARGEST} && $ <= {LARGEST})')""",
        output_field=models.BooleanField(),
    )
    size = Length(Cast(F(field), models.TextField()))
    # Each character of a text takes up to six in JSON.
    return models.CheckConstraint(condition=Q(is_one) & Q(LessThanOrEqual(size, 6 * LONGEST + 2)), name=name)


class FeatureFlag(models.Model):
    """A switch that programs ask for by its key, and that gives different people different values.

    The first that applies decides: a rule for the user, for the user's plan, for the channel, the percentage with its
    variants, and in the end `value`. One that is not active is, for those who ask, not there.
    """

    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    key = models.CharField(
        max_length=64,
        unique=True,
        validators=[flag_name],
        help_text="What programs ask for. It cannot be changed later: who gets what hangs on it.",
    )
    description = models.TextField(blank=True, max_length=1000)
    is_active = models.BooleanField(
        default=True, help_text="Off: as if the flag were not there. Programs do what they did before it."
    )
    value: models.JSONField[Any, Any] = models.JSONField(default=bool, validators=[check_value])
    percentage = models.DecimalField(
        max_digits=5,
        decimal_places=2,
        default=Decimal(0),
        validators=[MinValueValidator(0), MaxValueValidator(100)],
        help_text="How many of all users take part, 0 to 100, in steps of 0.01. A higher one only adds users.",
    )
    percentage_value: models.JSONField[Any, Any] = models.JSONField(default=on, validators=[check_value])
    salt = models.CharField(max_length=32, default=new_salt, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ("key",)
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(key__regex=FLAG_NAME), name="featureflag_key_plain"),
            models.CheckConstraint(condition=Q(salt__regex="^[0-9a-z]+$"), name="featureflag_salt_plain"),
            models.CheckConstraint(
                condition=Q(percentage__gte=0, percentage__lte=100), name="featureflag_percentage_of_100"
            ),
            one_value("value", "featureflag_value_plain"),
            one_value("percentage_value", "featureflag_percentage_value_plain"),
        ]

    def __str__(self) -> str:
        return self.key


class FlagRule(models.Model):
    """The value that a flag has for one user, for those on one plan, or on one channel."""

    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    flag = models.ForeignKey(FeatureFlag, on_delete=models.CASCADE, related_name="rules")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, blank=True, related_name="flag_rules"
    )
    plan = models.ForeignKey(Plan, on_delete=models.CASCADE, null=True, blank=True, related_name="flag_rules")
    channel = models.CharField(
        max_length=50,
        null=True,
        blank=True,
        validators=[RegexValidator(rf"^{CHANNEL_TYPE.pattern}\Z", "Lower-case letters, digits, _ and -.")],
    )
    value: models.JSONField[Any, Any] = models.JSONField(validators=[check_value])

    class Meta:
        ordering = ("flag", "id")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["flag", "user"], name="flagrule_user_once"),
            models.UniqueConstraint(fields=["flag", "plan"], name="flagrule_plan_once"),
            models.UniqueConstraint(fields=["flag", "channel"], name="flagrule_channel_once"),
            models.CheckConstraint(
                condition=Q(user__isnull=False, plan=None, channel=None)
                | Q(user=None, plan__isnull=False, channel=None)
                | Q(user=None, plan=None, channel__isnull=False),
                name="flagrule_about_one",
                violation_error_message="Name one of user, plan and channel.",
            ),
            models.CheckConstraint(
                condition=Q(channel=None) | Q(channel__regex=rf"^{CHANNEL_TYPE.pattern}\Z"),
                name="flagrule_channel_plain",
            ),
            one_value("value", "flagrule_value_plain"),
        ]

    def __str__(self) -> str:
        """Without the user's name: audit events quote it."""
        if self.channel:
            return f"channel {self.channel}"
        return f"user {self.user_id}" if self.user_id else f"plan {self.plan_id}"


class FlagVariant(models.Model):
    """One of the values among which the users of a flag's percentage are split."""

    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    flag = models.ForeignKey(FeatureFlag, on_delete=models.CASCADE, related_name="variants")
    name = models.CharField(max_length=64, validators=[flag_name])
    weight = models.PositiveIntegerField(
        default=1,
        validators=[MinValueValidator(1), MaxValueValidator(MOST_WEIGHT)],
        help_text="Its share, in proportion to the others.",
    )
    value: models.JSONField[Any, Any] = models.JSONField(validators=[check_value])

    class Meta:
        ordering = ("flag", "name")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["flag", "name"], name="flagvariant_name_once"),
            models.CheckConstraint(condition=Q(name__regex=FLAG_NAME), name="flagvariant_name_plain"),
            models.CheckConstraint(
                condition=Q(weight__gte=1, weight__lte=MOST_WEIGHT), name="flagvariant_weight_positive"
            ),
            one_value("value", "flagvariant_value_plain"),
        ]

    def __str__(self) -> str:
        return self.name


class FlagExposure(models.Model):
    """How many different users got a variant of a flag on one day (UTC)."""

    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    flag = models.ForeignKey(FeatureFlag, on_delete=models.CASCADE, related_name="exposures")
    variant = models.CharField(max_length=64)
    day = models.DateField()
    users = models.PositiveIntegerField()

    class Meta:
        ordering = ("-day", "variant")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["flag", "day", "variant"], name="flagexposure_unique"),
            models.CheckConstraint(condition=Q(users__gt=0), name="flagexposure_users_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.variant} on {self.day}"
