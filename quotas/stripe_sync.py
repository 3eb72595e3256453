"""Writing down what Stripe says.

First a customer's subscriptions are read, which takes the network and no transaction; then they are applied, in one
transaction and without the network. The end state follows from the last answer alone, however many there were before.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q
from django.utils import timezone

from accounts import audit
from accounts.merging import current_id
from accounts.models import User
from quotas import services, stripe_api
from quotas.models import Plan, StripeCustomer, Subscription
from quotas.stripe_api import StripeSubscription
from quotas.subscriptions import begin_default, end

Status = Subscription.Status

ERASED = "The user was erased."

# Of several subscriptions of one customer, which should not be, the better one counts, and of two equals the newer.
RANKS: dict[str, int] = {
    Status.TRIALING: 3,
    Status.ACTIVE: 3,
    Status.PAST_DUE: 2,
    Status.UNPAID: 1,
    Status.PAUSED: 1,
    Status.INCOMPLETE: 0,
}


@dataclass(frozen=True, slots=True)
class CustomerState:
    """All subscriptions that a customer has had, and when Stripe was asked for them."""

    customer_id: str
    asked_at: datetime
    subscriptions: list[StripeSubscription]

    @property
    def live(self) -> list[StripeSubscription]:
        found = [one for one in self.subscriptions if one.status not in Subscription.ENDED]
        return sorted(found, key=lambda one: (RANKS[one.status], one.created_at, one.id), reverse=True)


def read_customer(customer_id: str) -> CustomerState:
    """Ask Stripe. `CustomerUnknown` if the key belongs to an account that never had this customer."""
    asked_at = database_clock()
    return CustomerState(customer_id, asked_at, stripe_api.subscriptions_of(customer_id))


def owner_of(customer_id: str) -> UUID | None:
    """The user who pays as this customer."""
    found = User.objects.filter(Q(stripe_customer_id=customer_id) | Q(subscriptions__stripe_customer_id=customer_id))
    user_id = found.order_by("pk").values_list("pk", flat=True).first()
    return current_id(user_id) if user_id else None


def customers_of(user_id: UUID) -> list[str]:
    """As whom the user and their aliases pay: one customer, or more if users were merged."""
    users = User.objects.filter(Q(pk=user_id) | Q(merged_into_id=user_id)).exclude(stripe_customer_id=None)
    sold = Subscription.objects.filter(user_id=user_id).exclude(stripe_customer_id="")
    found = (users.order_by("pk"), "stripe_customer_id"), (sold, "stripe_customer_id")
    return sorted({customer for rows, name in found for customer in rows.values_list(name, flat=True) if customer})


def is_erased(customer_id: str) -> bool:
    owner_id = owner_of(customer_id)
    return owner_id is not None and User.objects.filter(pk=owner_id, erased_at__isnull=False).exists()


def apply(state: CustomerState) -> str:
    """Write a customer's state down; why it could not be, or an empty text.

    One that was asked for before another which is written down already is passed over: that one knew more.
    """
    with transaction.atomic():
        user = _lock_owner(state.customer_id)
        if user is None:
            return "No user pays as this customer."
        if not _is_news(state):
            return ""
        return _Applying(state, user).run()


def _lock_owner(customer_id: str) -> User | None:
    user_id = owner_of(customer_id)
    while user_id is not None:
        user = User.objects.select_for_update(no_key=True).get(pk=user_id)
        if user.merged_into_id is None:
            return user
        user_id = user.merged_into_id
    return None


def _is_news(state: CustomerState) -> bool:
    StripeCustomer.objects.bulk_create([StripeCustomer(stripe_id=state.customer_id)], ignore_conflicts=True)
    known = StripeCustomer.objects.filter(Q(synced_at=None) | Q(synced_at__lte=state.asked_at))
    return bool(known.filter(stripe_id=state.customer_id).update(synced_at=state.asked_at))


def database_clock() -> datetime:
    """One clock for all processes, so that their questions to Stripe have an order."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        found: datetime = cursor.fetchone()[0]
        return found


class _Applying:
    """One customer's state and one user, who is locked."""

    def __init__(self, state: CustomerState, user: User) -> None:
        self.state, self.user, self.reason = state, user, ""
        rows = Subscription.objects.select_for_update(of=("self",), no_key=True).filter(user=user).order_by("pk")
        mine = Q(stripe_subscription_id__in=[one.id for one in state.subscriptions])
        found = rows.filter(mine | ~Q(status__in=Subscription.ENDED)).select_related("plan", "next_plan")
        self.rows = list(found)
        self.current = next((row for row in self.rows if row.status not in Subscription.ENDED), None)

    def run(self) -> str:
        former, counted = self._summary(self.current), self._counted(self.current)
        chosen = self._chosen()
        if chosen is None:
            self._end_current(None)
        else:
            self._write(*chosen)
        if self.current is None:
            # Who had none goes without until the first call.
            self.current = begin_default(self.user.pk) if former else None
        elif self._counted(self.current) != counted:
            services.move_quotas(user_id=self.user.pk, plan=services.plan_that_counts(self.current))
        self._note_uncounted()
        if self._summary(self.current) != former:
            audit.record("billing.synced", by=None, target=self.current, former=former, now=self._summary(self.current))
        return self.reason

    def _note_uncounted(self) -> None:
        """Tell operators of what is paid for besides what counts: they have to end one of the two at Stripe."""
        counted = self.current.stripe_subscription_id if self.current else None
        sold = [one.id for one in self.state.live if one.status != Status.INCOMPLETE and one.id != counted]
        found = sorted(sold) if counted and self.user.erased_at is None else []
        known = StripeCustomer.objects.filter(stripe_id=self.state.customer_id).exclude(uncounted=found)
        if known.update(uncounted=found) and found:
            audit.record("billing.two_subscriptions", by=None, target=self.current, counted=counted, uncounted=found)

    def _chosen(self) -> tuple[StripeSubscription, Plan] | None:
        """The subscription at Stripe that the user has from now on, with its plan."""
        for one in self.state.live:
            plan = self._plan_of(one)
            if plan is None:
                self.reason = f"No plan has the price {one.price_id} of {one.id}."
            elif not self._is_outdone(one):
                return one, plan
        return None

    def _plan_of(self, one: StripeSubscription) -> Plan | None:
        """By the price; whoever bought at a price that the plan does not have any more, keeps the plan."""
        row = self._row_of(one)
        return Plan.objects.filter(stripe_price_id=one.price_id).first() or (row.plan if row else None)

    def _is_outdone(self, one: StripeSubscription) -> bool:
        """Whether the user has something that this must not take away."""
        if self.user.erased_at is not None:
            self.reason = ERASED
            return True
        if self._row_of(one) is None and Subscription.objects.filter(stripe_subscription_id=one.id).exists():
            self.reason = f"The subscription {one.id} is another user's here."
            return True
        if self.current is None or self.current.stripe_subscription_id == one.id:
            return False
        if self.current.stripe_subscription_id is not None and self.current.stripe_customer_id != one.customer_id:
            self.reason = f"The user has another subscription, {self.current.stripe_subscription_id}."
            return True
        # What a user was given is not lost for a purchase that is not paid yet.
        is_given = self.current.stripe_subscription_id is None and not self.current.plan.is_default
        return one.status == Status.INCOMPLETE and is_given

    def _row_of(self, one: StripeSubscription) -> Subscription | None:
        return next((row for row in self.rows if row.stripe_subscription_id == one.id), None)

    def _write(self, one: StripeSubscription, plan: Plan) -> None:
        row = self._row_of(one) or Subscription(user=self.user, stripe_subscription_id=one.id)
        if row is not self.current:
            self._end_current(one)
        row.plan, row.stripe_customer_id, row.synced_at = plan, one.customer_id, self.state.asked_at
        row.status, row.anchored_at, row.trial_end = one.status, one.anchored_at, one.trial_end
        row.current_period_start, row.current_period_end = one.period_start, one.period_end
        row.canceled_at = one.canceled_at
        row.cancel_at_period_end = one.cancel_at_period_end or one.cancel_at is not None
        row.next_plan = None if row.cancel_at_period_end else self._next_plan(one, plan)
        row.grace_until = self._grace_until(one)
        row.is_suspended = _is_suspended(row)
        row.save()
        self.current = row

    def _next_plan(self, one: StripeSubscription, plan: Plan) -> Plan | None:
        if not one.next_price_id:
            return None
        return Plan.objects.filter(stripe_price_id=one.next_price_id).exclude(pk=plan.pk).first()

    def _grace_until(self, one: StripeSubscription) -> datetime | None:
        if one.status != Status.PAST_DUE:
            return None
        return (one.unpaid_since or one.period_start) + timedelta(days=settings.BILLING_GRACE_DAYS)

    def _end_current(self, successor: StripeSubscription | None) -> None:
        """End what the user has, if another comes in its place, or if Stripe says that it is over."""
        row = self.current
        if row is None:
            return
        theirs = {one.id: one for one in self.state.subscriptions}
        is_theirs = row.stripe_customer_id == self.state.customer_id or row.stripe_subscription_id in theirs
        if successor is None and not is_theirs:
            return
        found = theirs.get(row.stripe_subscription_id or "")
        is_over = found is not None and found.status in Subscription.ENDED
        if successor is None and found is not None and not is_over:
            return
        row.synced_at = self.state.asked_at if is_theirs else row.synced_at
        if found is not None and is_over:
            end(row, status=found.status, at=found.ended_at or found.canceled_at)
        else:
            end(row)
        self.current = None

    def _counted(self, row: Subscription | None) -> UUID | None:
        return services.plan_that_counts(row).pk if row else None

    def _summary(self, row: Subscription | None) -> dict[str, Any]:
        if row is None:
            return {}
        return {
            "subscription": str(row.pk),
            "plan": row.plan.slug,
            "status": row.status,
            "is_suspended": row.is_suspended,
            "cancel_at_period_end": row.cancel_at_period_end,
            "next_plan": row.next_plan.slug if row.next_plan else None,
        }


def _is_suspended(row: Subscription) -> bool:
    if row.status == Status.PAST_DUE:
        return row.grace_until is not None and row.grace_until <= timezone.now()
    return row.status not in Subscription.IN_ORDER
