from accounts import views
from accounts.routers import OptionalSlashRouter

router = OptionalSlashRouter()
router.register("users/me/api-keys", views.ApiKeyViewSet, basename="api-key")
router.register("users", views.UserViewSet, basename="user")
router.register("auth/token", views.TokenViewSet, basename="token")

urlpatterns = router.urls
