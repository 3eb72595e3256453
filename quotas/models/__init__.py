"""What callers may use, and what others are told of it: plans, quotas, holds, feature flags, events and webhooks."""

from quotas.models.events import Event
from quotas.models.flags import FeatureFlag, FlagExposure, FlagRule, FlagVariant
from quotas.models.idempotency import IdempotencyRecord
from quotas.models.plans import LimitFields, Plan, PlanLimit
from quotas.models.quotas import Grant, Quota, Reservation
from quotas.models.stripe import StripeCustomer, StripeEvent
from quotas.models.subscriptions import Subscription
from quotas.models.webhooks import WebhookDelivery, WebhookEndpoint

__all__ = [
    "Event",
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
    "StripeCustomer",
    "StripeEvent",
    "Subscription",
    "WebhookDelivery",
    "WebhookEndpoint",
]
