from django.urls import re_path

from accounts.routers import OptionalSlashRouter
from prompts import (
    enhance_views,
    mcp_views,
    saved_views,
    search_views,
    sharing_views,
    template_views,
    transfer_views,
    views,
)

router = OptionalSlashRouter()
router.register("prompts/saved", saved_views.SavedPromptViewSet, basename="saved-prompt")
router.register("prompts/collections", saved_views.CollectionViewSet, basename="collection")
router.register("prompts/templates", template_views.TemplateViewSet, basename="prompt-template")
router.register("prompts/techniques", enhance_views.TechniqueViewSet, basename="technique")
router.register("prompts/history", enhance_views.HistoryViewSet, basename="prompt-history")

urlpatterns = [
    re_path("^prompts/enhance/?$", enhance_views.enhance, name="enhance-prompt"),
    re_path("^prompts/classify/?$", views.classify, name="classify-prompt"),
    re_path("^prompts/saved/export/?$", transfer_views.ExportView.as_view(), name="export-prompts"),
    re_path("^prompts/saved/import/?$", transfer_views.ImportView.as_view(), name="import-prompts"),
    re_path("^prompts/shared/(?P<token>[^/]+)/?$", sharing_views.SharedView.as_view(), name="shared-prompt"),
    re_path(
        "^prompts/shared/(?P<token>[^/]+)/duplicate/?$",
        sharing_views.SharedCopyView.as_view(),
        name="copy-shared-prompt",
    ),
    re_path("^prompts/search/?$", search_views.search, name="search-prompts"),
    re_path("^prompts/suggestions/?$", search_views.suggestions, name="suggest-prompts"),
    *router.urls,
]

mcp_urlpatterns = [re_path("^mcp/?$", mcp_views.mcp)]
