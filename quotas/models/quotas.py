"""What one user or key may use, and the holds on it."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar
from uuid import UUID

from django.conf import settings
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Greatest
from django.utils import timezone

from accounts.ids import uuid7
from accounts.models import ApiKey
from quotas.meters import Meter, each
from quotas.models.plans import LimitFields


class QuotaQuerySet(models.QuerySet["Quota"]):
    def due(self, now: datetime) -> QuotaQuerySet:
        """Those whose period is over, or one of whose grants has expired."""
        return self.filter(Q(reset_date__lte=now) | Q(grants_expire_at__lte=now))

    def of_user(self, user_id: UUID) -> QuotaQuerySet:
        """The user's own quotas, without the budgets of the user's keys."""
        return self.filter(user_id=user_id, api_key=None)

    def of_key(self, key_id: UUID) -> QuotaQuerySet:
        return self.filter(api_key_id=key_id)


class Quota(LimitFields):
    """What one user may use of one meter in one period; with an `api_key`, the budget of that key alone.

    A budget counts what its key uses, for whomever the key calls. It only bounds: what the user has no quota for, it
    does not let in. Its `user` is the key's owner.

    Usage is drawn from pools: what each period begins with, `base_limit`, and grants; the first to expire is spent
    first. `base_used` is what was drawn from the former, and `granted` what grants have given to this period (spent) or
    still can, when pools were last looked at (`quotas.pools`).

    `limit` is what counts now: `base_limit` plus `granted`; or, where that was lowered under what is used and held
    already, just that, so nothing more is admitted. The database holds `current_usage + held <= limit`.
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
    is_override = models.BooleanField(
        default=False, editable=False, help_text="Agreed with this user; plans do not change it."
    )
    limit = models.BigIntegerField(validators=[MinValueValidator(0)], help_text="What counts now, with grants.")
    granted = models.BigIntegerField(default=0, editable=False, help_text="Part of the limit that grants give.")
    grants_expire_at = models.DateTimeField(
        null=True, editable=False, help_text="When the first of the open grants expires."
    )
    current_usage = models.BigIntegerField(default=0, editable=False)
    base_used = models.BigIntegerField(default=0, editable=False)
    held = models.BigIntegerField(default=0, editable=False, help_text="Reserved by calls that are still running.")
    reset_date = models.DateTimeField(null=True, blank=True, editable=False)
    anchored_at = models.DateTimeField(
        null=True, editable=False, help_text="What its periods are counted from. Empty: they are those of the calendar."
    )
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
                condition=Q(overage_allowed=True, limit=F("base_limit") + F("granted"))
                | Q(
                    overage_allowed=False,
                    limit=Greatest(F("base_limit") + F("granted"), F("current_usage") + F("held")),
                ),
                name="quota_total_adds_up",
            ),
            models.CheckConstraint(
                condition=Q(base_used__gte=0, base_used__lte=F("current_usage")), name="quota_base_used_is_used"
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
            models.Index(
                fields=["grants_expire_at"], condition=Q(grants_expire_at__isnull=False), name="quota_grants_expire"
            ),
            models.Index(fields=["api_key"], condition=Q(api_key__isnull=False), name="quota_api_key"),
        ]

    def __str__(self) -> str:
        return f"{self.resource_type}.{self.unit} {each(self.period)}"

    @property
    def meter(self) -> Meter:
        return Meter(self.resource_type, self.unit)

    @property
    def remaining(self) -> int:
        return max(0, self.limit - self.current_usage - self.held)

    def is_due(self, now: datetime) -> bool:
        """Whether its period is over or a grant has expired, so that what it says is of the past."""
        return any(at is not None and at <= now for at in (self.reset_date, self.grants_expire_at))


class GrantQuerySet(models.QuerySet["Grant"]):
    def open(self) -> GrantQuerySet:
        return self.filter(closed_at=None)


class Grant(models.Model):
    """Something on top of a quota, once: until it is spent, or expires. How much is spent, `quotas.pools` writes."""

    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    quota = models.ForeignKey(Quota, on_delete=models.CASCADE, related_name="grants")
    amount = models.BigIntegerField(validators=[MinValueValidator(1)])
    spent = models.BigIntegerField(default=0)
    expires_at = models.DateTimeField(null=True, blank=True, help_text="Empty: it stays until it is spent.")
    reason = models.CharField(max_length=500, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    closed_at = models.DateTimeField(null=True, editable=False, help_text="When it was found spent or expired.")

    # `spent` and `closed_at` as they were read, by who locks the quota to change them.
    pools_were: tuple[int, datetime | None] = (0, None)

    objects = GrantQuerySet.as_manager()

    class Meta:
        ordering = ("-id",)
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(amount__gt=0), name="grant_amount_positive"),
            models.CheckConstraint(condition=Q(spent__gte=0, spent__lte=F("amount")), name="grant_not_overspent"),
            models.CheckConstraint(
                condition=Q(expires_at=None) | Q(expires_at__gt=F("created_at")), name="grant_expires_later"
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["quota"], condition=Q(closed_at=None), name="grant_open"),
        ]

    def __str__(self) -> str:
        return f"{self.amount} for {self.quota_id}"

    @property
    def remaining(self) -> int:
        return self.amount - self.spent


class ReservationQuerySet(models.QuerySet["Reservation"]):
    def of_client(self, user_id: UUID) -> ReservationQuerySet:
        return self.filter(user_id=user_id, by_client=True)

    def holding(self, quota_id: UUID) -> ReservationQuerySet:
        """What is held on a quota now; the first to expire comes first."""
        return self.filter(status=Reservation.Status.HELD, holds__has_key=str(quota_id)).order_by("expires_at")

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
    idempotency_key = models.CharField(max_length=255, blank=True, default="")
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
