from accounts.routers import OptionalSlashRouter
from quotas import views

router = OptionalSlashRouter()
router.register("plans", views.PlanViewSet, basename="plan")
router.register("users/me/quotas", views.MyQuotaViewSet, basename="my-quota")
router.register("users/me/api-keys", views.KeyBudgetViewSet, basename="api-key-budget")
router.register("users/me", views.MySubscriptionViewSet, basename="my")
router.register("quotas/reservations", views.ReservationViewSet, basename="reservation")
router.register("features", views.FeatureViewSet, basename="feature")
router.register("quotas", views.QuotaViewSet, basename="quota")

urlpatterns = router.urls
