"""Feature flags: who gets which value, and who was shown it."""

from __future__ import annotations

import secrets
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
from accounts.people import CHANNEL_TYPE
from quotas.flag_values import LARGEST, LONGEST, check_value
from quotas.models.plans import Plan

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
