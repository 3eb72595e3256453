"""The operators' pages of this application; each module registers its own."""

from quotas.admin.flags import FeatureFlagAdmin
from quotas.admin.keys import ApiKeyWithBudgetsAdmin
from quotas.admin.plans import PlanAdmin
from quotas.admin.quotas import QuotaAdmin, ReservationAdmin
from quotas.admin.stripe import StripeEventAdmin
from quotas.admin.subscriptions import SubscriptionAdmin
from quotas.admin.users import UserWithPlanAdmin

__all__ = [
    "ApiKeyWithBudgetsAdmin",
    "FeatureFlagAdmin",
    "PlanAdmin",
    "QuotaAdmin",
    "ReservationAdmin",
    "StripeEventAdmin",
    "SubscriptionAdmin",
    "UserWithPlanAdmin",
]
