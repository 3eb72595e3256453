"""Who is on which plan."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from accounts.ids import uuid7
from quotas.models.plans import Plan


class SubscriptionQuerySet(models.QuerySet["Subscription"]):
    def live(self) -> SubscriptionQuerySet:
        """Those that have not ended."""
        return self.exclude(status__in=Subscription.ENDED)


class Subscription(models.Model):
    """Which plan a user is on. A user has at most one subscription that has not ended.

    With a `stripe_subscription_id` it is sold by Stripe, whose state is copied here; without, it is ours alone.
    """

    class Status(models.TextChoices):
        """As Stripe's."""

        INCOMPLETE = "incomplete"
        INCOMPLETE_EXPIRED = "incomplete_expired"
        TRIALING = "trialing"
        ACTIVE = "active"
        PAST_DUE = "past_due"
        UNPAID = "unpaid"
        PAUSED = "paused"
        CANCELED = "canceled"

    ENDED: ClassVar = (Status.CANCELED, Status.INCOMPLETE_EXPIRED)
    # What is paid for, or need not be; of what is past due, the grace decides.
    IN_ORDER: ClassVar = (Status.TRIALING, Status.ACTIVE)

    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="subscriptions")
    plan = models.ForeignKey(Plan, on_delete=models.PROTECT, related_name="subscriptions")
    next_plan = models.ForeignKey(
        Plan,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        help_text="What the plan becomes when the period ends.",
    )
    stripe_subscription_id = models.CharField(max_length=255, null=True, blank=True, unique=True)
    stripe_customer_id = models.CharField(max_length=255, blank=True)
    status = models.CharField(max_length=20, choices=Status.choices, default=Status.ACTIVE)
    is_suspended = models.BooleanField(
        default=False, help_text="Not paid for: the limits of the default plan count, not those of the plan."
    )
    anchored_at = models.DateTimeField(
        default=timezone.now,
        help_text="What the periods of quotas are counted from, where they go by anniversaries.",
    )
    current_period_start = models.DateTimeField(default=timezone.now)
    current_period_end = models.DateTimeField(null=True, blank=True)
    trial_end = models.DateTimeField(null=True, blank=True)
    grace_until = models.DateTimeField(
        null=True, blank=True, help_text="Until when the plan may still be used although a payment is due."
    )
    cancel_at_period_end = models.BooleanField(default=False)
    canceled_at = models.DateTimeField(null=True, blank=True)
    synced_at = models.DateTimeField(
        null=True, blank=True, help_text="When the question to Stripe was asked whose answer is written here."
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(auto_now=True)

    objects = SubscriptionQuerySet.as_manager()

    class Meta:
        ordering = ("-id",)
        indexes: ClassVar = [
            models.Index(
                fields=["stripe_customer_id"],
                condition=~Q(stripe_customer_id=""),
                name="subscription_stripe_customer",
            ),
            models.Index(
                fields=["grace_until"],
                condition=Q(status="past_due", is_suspended=False),
                name="subscription_in_grace",
            ),
            models.Index(
                fields=["current_period_end"],
                condition=Q(stripe_subscription_id=None) & (Q(cancel_at_period_end=True) | ~Q(next_plan=None)),
                name="subscription_local_change",
            ),
            models.Index(
                fields=["trial_end"],
                condition=Q(stripe_subscription_id=None, status="trialing"),
                name="subscription_local_trial",
            ),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["user"],
                condition=~Q(status__in=["canceled", "incomplete_expired"]),
                name="subscription_one_live",
            ),
            models.CheckConstraint(
                condition=Q(
                    status__in=[
                        *("incomplete", "incomplete_expired", "trialing", "active"),
                        *("past_due", "unpaid", "paused", "canceled"),
                    ]
                ),
                name="subscription_status_known",
            ),
            models.CheckConstraint(
                condition=Q(current_period_end=None) | Q(current_period_end__gt=F("current_period_start")),
                name="subscription_period_forward",
            ),
            models.CheckConstraint(
                condition=~Q(status="trialing") | Q(trial_end__isnull=False), name="subscription_trial_has_end"
            ),
            models.CheckConstraint(
                condition=Q(grace_until=None) | Q(status="past_due"), name="subscription_grace_is_past_due"
            ),
            models.CheckConstraint(
                condition=Q(status="past_due")
                | Q(status__in=["incomplete", "unpaid", "paused"], is_suspended=True)
                | Q(status__in=["trialing", "active", "canceled", "incomplete_expired"], is_suspended=False),
                name="subscription_suspended_unless_paid",
            ),
            models.CheckConstraint(
                condition=Q(next_plan=None) | ~Q(next_plan=F("plan")), name="subscription_next_plan_differs"
            ),
            models.CheckConstraint(
                condition=Q(cancel_at_period_end=False) | Q(next_plan=None), name="subscription_one_end_of_period"
            ),
            models.CheckConstraint(
                condition=~Q(status__in=["canceled", "incomplete_expired"])
                | Q(cancel_at_period_end=False, next_plan=None),
                name="subscription_ended_awaits_nothing",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user} on {self.plan} ({self.status})"

    @property
    def sold_by(self) -> str | None:
        """`stripe`; None if it is ours alone."""
        return "stripe" if self.stripe_subscription_id is not None else None

    @property
    def awaits_something(self) -> bool:
        """Whether an end, or another plan, is planned for the end of the period."""
        return self.cancel_at_period_end or self.next_plan_id is not None
