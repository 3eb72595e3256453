from django.urls import re_path

from accounts.routers import OptionalSlashRouter
from prompts import enhance_views, template_views, views

router = OptionalSlashRouter()
router.register("prompts/saved", views.SavedPromptViewSet, basename="saved-prompt")
router.register("prompts/templates", template_views.TemplateViewSet, basename="prompt-template")
router.register("prompts/techniques", enhance_views.TechniqueViewSet, basename="technique")
router.register("prompts/history", enhance_views.HistoryViewSet, basename="prompt-history")

urlpatterns = [
    re_path("^prompts/enhance/?$", enhance_views.enhance, name="enhance-prompt"),
    re_path("^prompts/classify/?$", views.classify, name="classify-prompt"),
    *router.urls,
]
