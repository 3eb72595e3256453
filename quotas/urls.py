from accounts.routers import OptionalSlashRouter
from quotas import views

router = OptionalSlashRouter()
router.register("plans", views.PlanViewSet, basename="plan")
router.register("users/me/quotas", views.MyQuotaViewSet, basename="my-quota")
router.register("quotas/reservations", views.ReservationViewSet, basename="reservation")
router.register("quotas", views.QuotaViewSet, basename="quota")

urlpatterns = router.urls
