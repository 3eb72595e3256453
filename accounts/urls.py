from django.urls import re_path

from accounts import data_views, session_views, views
from accounts.routers import OptionalSlashRouter

router = OptionalSlashRouter()
router.register("users/me/api-keys", views.ApiKeyViewSet, basename="api-key")
router.register("users/me/sessions", session_views.SessionViewSet, basename="session")
router.register("users", views.RegistrationViewSet, basename="registration")
router.register("users", views.MeViewSet, basename="user")
router.register("auth/token", session_views.TokenViewSet, basename="token")
router.register("auth", session_views.SignOutViewSet, basename="sign-out")
router.register("auth", session_views.SignOutEverywhereViewSet, basename="sign-out-everywhere")

urlpatterns = [
    re_path(r"^users/me/export/?$", data_views.ExportView.as_view(), name="user-export"),
    *router.urls,
]
