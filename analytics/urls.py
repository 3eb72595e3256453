from accounts.routers import OptionalSlashRouter
from analytics import views

router = OptionalSlashRouter()
router.register("analytics/daily-stats", views.DailyStatViewSet, basename="daily-stat")
router.register(
    "analytics/technique-effectiveness", views.TechniqueEffectivenessViewSet, basename="technique-effectiveness"
)
router.register("users/me", views.MyUsageViewSet, basename="my")

urlpatterns = router.urls
