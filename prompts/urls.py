from django.urls import re_path

from accounts.routers import OptionalSlashRouter
from prompts import mcp_views, template_views, views

router = OptionalSlashRouter()
router.register("prompts/saved", views.SavedPromptViewSet, basename="saved-prompt")
router.register("prompts/templates", template_views.TemplateViewSet, basename="prompt-template")

urlpatterns = [
    re_path("^prompts/classify/?$", views.classify, name="classify-prompt"),
    *router.urls,
]

mcp_urlpatterns = [re_path("^mcp/?$", mcp_views.mcp)]
