from django.urls import re_path

from accounts import channel_views, data_views, recovery_views, session_views, views
from accounts.ids import UUID_PATTERN
from accounts.routers import OptionalSlashRouter

router = OptionalSlashRouter()
router.register("users/me/api-keys", views.ApiKeyViewSet, basename="api-key")
router.register("users/me/sessions", session_views.SessionViewSet, basename="session")
router.register("users", views.RegistrationViewSet, basename="registration")
router.register("users", views.MeViewSet, basename="user")
router.register("auth/token", session_views.TokenViewSet, basename="token")
router.register("auth/verify-email", recovery_views.EmailVerificationViewSet, basename="verify-email")
router.register("auth/password-reset", recovery_views.PasswordResetViewSet, basename="password-reset")
router.register("auth", session_views.SignOutViewSet, basename="sign-out")
router.register("auth", session_views.SignOutEverywhereViewSet, basename="sign-out-everywhere")

channels = channel_views.ChannelIdentityViewSet

urlpatterns = [
    re_path("^users/me/channels/?$", channels.as_view({"get": "list", "post": "create", "delete": "unlink_named"})),
    re_path(f"^users/me/channels/(?P<pk>{UUID_PATTERN})/?$", channels.as_view({"delete": "destroy"})),
    re_path("^users/me/export/?$", data_views.ExportView.as_view()),
    *router.urls,
]
