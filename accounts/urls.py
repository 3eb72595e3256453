from accounts import recovery_views, views
from accounts.routers import OptionalSlashRouter

router = OptionalSlashRouter()
router.register("users/me/api-keys", views.ApiKeyViewSet, basename="api-key")
router.register("users", views.UserViewSet, basename="user")
router.register("auth/token", views.TokenViewSet, basename="token")
router.register("auth/verify-email", recovery_views.EmailVerificationViewSet, basename="verify-email")
router.register("auth/password-reset", recovery_views.PasswordResetViewSet, basename="password-reset")

urlpatterns = router.urls
