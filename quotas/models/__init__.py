"""What callers may use: plans, subscriptions, quotas and the holds on them, feature flags."""

from quotas.models.flags import FeatureFlag, FlagExposure, FlagRule, FlagVariant
from quotas.models.idempotency import IdempotencyRecord
from quotas.models.plans import LimitFields, Plan, PlanLimit, Subscription
from quotas.models.quotas import Grant, Quota, Reservation

__all__ = [
    "FeatureFlag",
    "FlagExposure",
    "FlagRule",
    "FlagVariant",
    "Grant",
    "IdempotencyRecord",
    "LimitFields",
    "Plan",
    "PlanLimit",
    "Quota",
    "Reservation",
    "Subscription",
]
