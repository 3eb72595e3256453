from django.contrib import admin
from django.urls import include, path, re_path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from accounts import pages
from accounts.urls import urlpatterns as accounts
from analytics.urls import urlpatterns as analytics
from config import health
from config.metrics import metrics
from conversations.urls import openai_urlpatterns as openai_chat
from conversations.urls import urlpatterns as conversations
from inference.urls import openai_urlpatterns as openai_inference
from inference.urls import urlpatterns as inference
from prompts.urls import mcp_urlpatterns as mcp
from prompts.urls import urlpatterns as prompts
from quotas.urls import urlpatterns as quotas

api = [*quotas, *accounts, *inference, *prompts, *conversations, *analytics]

urlpatterns = [
    path("v1/", include([*openai_chat, *openai_inference])),
    path("api/v1/", include(api)),
    *mcp,
    path("api/schema", SpectacularAPIView.as_view(authentication_classes=(), permission_classes=()), name="schema"),
    path(
        "api/docs",
        SpectacularSwaggerSplitView.as_view(url_name="schema", authentication_classes=(), permission_classes=()),
        name="docs",
    ),
    re_path("^healthz/?$", health.alive),
    re_path("^readyz/?$", health.ready),
    re_path("^metrics/?$", metrics),
    path("verify-email", pages.VerifyEmailPage.as_view(), name="verify-email-page"),
    path("reset-password", pages.ResetPasswordPage.as_view(), name="reset-password-page"),
    path("admin", health.front_door),
    path("admin/", admin.site.urls),
    path("", health.front_door),
]

handler400 = "config.errors.bad_request"
handler403 = "config.errors.permission_denied"
handler404 = "config.errors.not_found"
handler500 = "config.errors.server_error"
