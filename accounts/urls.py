from django.urls import re_path

from accounts import data_views, views
from accounts.routers import OptionalSlashRouter

router = OptionalSlashRouter()
router.register("users/me/api-keys", views.ApiKeyViewSet, basename="api-key")
router.register("users", views.UserViewSet, basename="user")
router.register("auth/token", views.TokenViewSet, basename="token")

urlpatterns = [
    re_path(r"^users/me/export/?$", data_views.ExportView.as_view(), name="user-export"),
    *router.urls,
]
