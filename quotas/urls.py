from django.urls import re_path

from accounts.routers import OptionalSlashRouter
from quotas import billing_views, views

router = OptionalSlashRouter()
router.register("plans", views.PlanViewSet, basename="plan")
router.register("users/me/quotas", views.MyQuotaViewSet, basename="my-quota")
router.register("users/me/api-keys", views.KeyBudgetViewSet, basename="api-key-budget")
router.register("users/me", views.MySubscriptionViewSet, basename="my")
router.register("users/me/subscription", billing_views.MySubscriptionViewSet, basename="my-subscription")
router.register("billing", billing_views.BillingViewSet, basename="billing")
router.register("quotas/reservations", views.ReservationViewSet, basename="reservation")
router.register("features", views.FeatureViewSet, basename="feature")
router.register("quotas", views.QuotaViewSet, basename="quota")

urlpatterns = [
    re_path("^billing/webhook/?$", billing_views.StripeWebhookView.as_view()),
    *router.urls,
]
