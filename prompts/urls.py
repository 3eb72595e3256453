from django.urls import re_path

from accounts.routers import OptionalSlashRouter
from prompts import search_views, template_views, views

router = OptionalSlashRouter()
router.register("prompts/saved", views.SavedPromptViewSet, basename="saved-prompt")
router.register("prompts/templates", template_views.TemplateViewSet, basename="prompt-template")

urlpatterns = [
    re_path("^prompts/classify/?$", views.classify, name="classify-prompt"),
    re_path("^prompts/search/?$", search_views.search, name="search-prompts"),
    re_path("^prompts/suggestions/?$", search_views.suggestions, name="suggest-prompts"),
    *router.urls,
]
