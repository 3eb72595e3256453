"""The operators' pages of this application; each module registers its own."""

from quotas.admin.events import EventAdmin
from quotas.admin.flags import FeatureFlagAdmin
from quotas.admin.grants import GrantAdmin
from quotas.admin.keys import ApiKeyWithBudgetsAdmin
from quotas.admin.plan_limits import PlanLimitAdmin
from quotas.admin.plans import PlanAdmin
from quotas.admin.quotas import QuotaAdmin
from quotas.admin.reservations import ReservationAdmin
from quotas.admin.stripe import StripeEventAdmin
from quotas.admin.subscriptions import SubscriptionAdmin
from quotas.admin.users import UserWithPlanAdmin
from quotas.admin.webhooks import WebhookDeliveryAdmin, WebhookEndpointAdmin

__all__ = [
    "ApiKeyWithBudgetsAdmin",
    "EventAdmin",
    "FeatureFlagAdmin",
    "GrantAdmin",
    "PlanAdmin",
    "PlanLimitAdmin",
    "QuotaAdmin",
    "ReservationAdmin",
    "StripeEventAdmin",
    "SubscriptionAdmin",
    "UserWithPlanAdmin",
    "WebhookDeliveryAdmin",
    "WebhookEndpointAdmin",
]
