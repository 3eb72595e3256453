from accounts.routers import OptionalSlashRouter
from analytics import views

router = OptionalSlashRouter()
router.register("analytics/daily-stats", views.DailyStatViewSet, basename="daily-stat")

urlpatterns = router.urls
