"""What callers may use: plans, subscriptions, quotas and the holds on them, feature flags."""

from quotas.models.flags import FeatureFlag, FlagExposure, FlagRule, FlagVariant
from quotas.models.plans import LimitFields, Plan, PlanLimit
from quotas.models.quotas import Quota, Reservation
from quotas.models.stripe import StripeCustomer, StripeEvent
from quotas.models.subscriptions import Subscription

__all__ = [
    "FeatureFlag",
    "FlagExposure",
    "FlagRule",
    "FlagVariant",
    "LimitFields",
    "Plan",
    "PlanLimit",
    "Quota",
    "Reservation",
    "StripeCustomer",
    "StripeEvent",
    "Subscription",
]
