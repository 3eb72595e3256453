from django.urls import re_path

from accounts.routers import OptionalSlashRouter
from prompts import views

router = OptionalSlashRouter()
router.register("prompts/saved", views.SavedPromptViewSet, basename="saved-prompt")

urlpatterns = [
    re_path("^prompts/classify/?$", views.classify, name="classify-prompt"),
    *router.urls,
]
