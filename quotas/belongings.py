"""What becomes of a user's plan, quotas, holds, events and rules of feature flags."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from uuid import UUID

from django.db import connection
from django.utils import timezone

from accounts.belongings import Belonging, Erase
from accounts.exceptions import Conflict
from accounts.tasks import enqueue
from quotas import services
from quotas.flag_store import drop_flags
from quotas.models import (
    Event,
    FlagRule,
    IdempotencyRecord,
    Quota,
    Reservation,
    StripeEvent,
    Subscription,
)
from quotas.pools import fit
from quotas.services.plans import follow
from quotas.stripe_sync import customers_of
from quotas.subscriptions import end
from quotas.tasks import close_checkouts, leave_stripe

Kind = tuple[str, str, str]

# What a plan, or an operator, says of a quota.
TERMS = ("base_limit", "is_override", "overage_allowed", "soft_threshold", "anchored_at", "reset_date")

OPEN = (Reservation.Status.HELD, Reservation.Status.EXPIRED)

# A hold goes on under the quota that its own was added to.
MOVE_RESERVATIONS = """
WITH became AS (SELECT * FROM unnest(%(quotas)s::text[], %(kept)s::text[]) AS b(quota, kept))
UPDATE quotas_reservation r SET
    user_id = %(target)s,
    holds = (SELECT coalesce(jsonb_object_agg(coalesce(b.kept, h.key), h.value), '{}'::jsonb)
             FROM jsonb_each(r.holds) h LEFT JOIN became b ON b.quota = h.key),
    charged = CASE WHEN r.charged IS NOT NULL THEN (
             SELECT coalesce(jsonb_object_agg(coalesce(b.kept, c.key), c.value), '{}'::jsonb)
             FROM jsonb_each(r.charged) c LEFT JOIN became b ON b.quota = c.key) END
WHERE r.user_id = %(source)s
"""


def _lock_reservations(user_ids: Collection[UUID]) -> None:
    """Those that may still be settled: nobody else writes the others."""
    unsettled = Reservation.objects.filter(user_id__in=user_ids, status__in=OPEN)
    list(unsettled.select_for_update().order_by("pk").values_list("pk", flat=True))


def _lock_quotas(user_ids: Collection[UUID]) -> None:
    quotas = Quota.objects.filter(user_id__in=user_ids)
    list(quotas.select_for_update().order_by("pk").values_list("pk", flat=True))


def _lock_idempotency_records(user_ids: Collection[UUID]) -> None:
    """Only those whose call still runs: nobody else writes the others."""
    running = IdempotencyRecord.objects.filter(user_id__in=user_ids, status=IdempotencyRecord.Status.RUNNING)
    list(running.select_for_update().order_by("pk").values_list("pk", flat=True))


def _merge_subscriptions(source_id: UUID, target_id: UUID) -> None:
    """The target's live subscription stays. The source's takes its place if there is none, or none that is paid for.

    `Conflict` if both are paid for: one of them has to be ended where it is paid. On a page that either has open, a
    second could be bought.
    """
    for customer_id in {*customers_of(source_id), *customers_of(target_id)}:
        enqueue(close_checkouts, customer_id)
    own, theirs = _live(target_id), _live(source_id)
    if own and theirs:
        if own.stripe_subscription_id and theirs.stripe_subscription_id:
            raise Conflict("Both users pay for a subscription: end one of them first.", code="two_paid_subscriptions")
        end(own if theirs.stripe_subscription_id else theirs)
    if theirs and theirs.status not in Subscription.ENDED:
        _take_terms(source_id, target_id)
    elif own and not _shared(target_id):
        # The target has never called. No rows are made for it that running calls of the source would have to find.
        _follow_plan(source_id, own)
    Subscription.objects.filter(user_id=source_id).update(user_id=target_id)


def _merge_reservations(source_id: UUID, target_id: UUID) -> None:
    kept = _shared(target_id)
    became = {str(quota.pk): str(kept[kind].pk) for kind, quota in _shared(source_id).items() if kind in kept}
    values: dict[str, Any] = {
        "source": source_id,
        "target": target_id,
        "quotas": list(became),
        "kept": list(became.values()),
    }
    with connection.cursor() as cursor:
        cursor.execute(MOVE_RESERVATIONS, values)


def _merge_quotas(source_id: UUID, target_id: UUID) -> None:
    """What both have of a kind is added up, on the target's terms; what only the source has moves as it is."""
    for user_id in (source_id, target_id):
        services.reset_due(user_id=user_id)
    own, theirs = _shared(target_id), _shared(source_id)
    for kind in own.keys() & theirs.keys():
        quota, other = own[kind], theirs[kind]
        quota.current_usage += other.current_usage
        quota.held += other.held
        quota.base_used += other.base_used
        quota.granted += other.granted
        other.grants.update(quota=quota)
        quota.grants_expire_at = min(filter(None, (quota.grants_expire_at, other.grants_expire_at)), default=None)
        _save(quota)
        other.delete()
    Quota.objects.filter(user_id=source_id).update(user_id=target_id)
    if theirs and not own:
        services.provision(user_id=target_id)


def _merge_flag_rules(source_id: UUID, target_id: UUID) -> None:
    """Where both have a rule of a flag, the target's stays."""
    theirs = FlagRule.objects.filter(user_id=source_id)
    own = FlagRule.objects.filter(user_id=target_id)
    theirs.filter(flag__in=own.values("flag")).delete()
    if theirs.update(user_id=target_id):
        drop_flags()


def _merge_idempotency_records(source_id: UUID, target_id: UUID) -> None:
    """A key that both have used stays the target's: if the source repeats its call, that is refused."""
    theirs = IdempotencyRecord.objects.filter(user_id=source_id)
    theirs.filter(key__in=IdempotencyRecord.objects.filter(user_id=target_id).values("key")).delete()
    theirs.update(user_id=target_id)


def _take_terms(source_id: UUID, target_id: UUID) -> None:
    """Let the target's quotas follow the source's plan, or what was agreed with the source."""
    theirs = _shared(source_id)
    for kind, quota in _shared(target_id).items():
        if kind in theirs:
            for name in TERMS:
                setattr(quota, name, getattr(theirs[kind], name))
            _save(quota)


def _follow_plan(user_id: UUID, subscription: Subscription) -> None:
    quotas = _shared(user_id)
    for limit in services.plan_that_counts(subscription).limits.all():
        quota = quotas.get((limit.resource_type, limit.unit, limit.period))
        if quota is not None:
            follow(quota, limit, subscription.anchored_at, timezone.now())
            quota.save()


def _save(quota: Quota) -> None:
    fit(quota)
    quota.save()


def _shared(user_id: UUID) -> dict[Kind, Quota]:
    """The quotas of a user, by what they limit, without the budgets of single keys, which go where their keys go."""
    quotas = Quota.objects.of_user(user_id)
    return {(quota.resource_type, quota.unit, quota.period): quota for quota in quotas}


def _live(user_id: UUID) -> Subscription | None:
    return Subscription.objects.live().filter(user_id=user_id).select_related("plan").first()


def _exported_subscription(row: dict[str, Any]) -> dict[str, Any]:
    return {name.removesuffix("__slug"): value for name, value in row.items()}


def _exported_rule(row: dict[str, Any]) -> dict[str, Any]:
    return {"flag" if name == "flag__key" else name: value for name, value in row.items()}


def _erase_subscriptions(user_id: UUID) -> None:
    """Nobody is left who could be on a plan, or pay for one. What Stripe has sent says who they were."""
    subscription = _live(user_id)
    if subscription is not None:
        end(subscription)
    for customer_id in customers_of(user_id):
        StripeEvent.objects.filter(customer_id=customer_id).update(payload={})
        enqueue(leave_stripe, customer_id)


def _erase_reservations(user_id: UUID) -> None:
    """The only text in them is a key that a caller has chosen."""
    Reservation.objects.filter(user_id=user_id).exclude(idempotency_key="").update(idempotency_key="")


# In the order in which they are locked and merged: whose plan stays is known before quotas are added up, and which
# quota becomes which before the source's go.
BELONGINGS = [
    Belonging(
        model=Reservation,
        section="reservations",
        fields=(
            *("id", "status", "amounts", "used", "idempotency_key", "by_client"),
            *("created_at", "expires_at", "settled_at"),
        ),
        lock=_lock_reservations,
        merge=_merge_reservations,
        erase=_erase_reservations,
    ),
    Belonging(
        model=Subscription,
        section="subscriptions",
        fields=(
            *("id", "plan__slug", "next_plan__slug", "status", "stripe_subscription_id", "stripe_customer_id"),
            *("anchored_at", "current_period_start", "current_period_end", "trial_end", "grace_until"),
            *("cancel_at_period_end", "canceled_at", "created_at"),
        ),
        row=_exported_subscription,
        merge=_merge_subscriptions,
        erase=_erase_subscriptions,
    ),
    Belonging(
        model=Quota,
        section="quotas",
        fields=(
            *("id", "resource_type", "unit", "period", "base_limit", "limit", "granted", "current_usage", "held"),
            "reset_date",
        ),
        lock=_lock_quotas,
        merge=_merge_quotas,
        erase=Erase.KEEP,
    ),
    Belonging(
        model=IdempotencyRecord,
        section="idempotency_keys",
        fields=("id", "key", "endpoint", "status", "response_status", "created_at", "expires_at"),
        lock=_lock_idempotency_records,
        merge=_merge_idempotency_records,
        erase=Erase.DELETE,
    ),
    Belonging(
        model=Event,
        section="events",
        fields=("id", "type", "payload", "reset_date", "created_at"),
        erase=Erase.DELETE,
    ),
    Belonging(
        model=FlagRule,
        section="feature_flags",
        fields=("id", "flag__key", "value"),
        row=_exported_rule,
        merge=_merge_flag_rules,
        erase=Erase.DELETE,
    ),
]
