from django.urls import path, re_path

from accounts.routers import OptionalSlashRouter
from inference import views

router = OptionalSlashRouter()
router.register("requests", views.RequestViewSet, basename="request")

urlpatterns = router.urls

openai_urlpatterns = [
    re_path("^embeddings/?$", views.embeddings, name="openai-embeddings"),
    re_path("^models/?$", views.models, name="openai-models"),
    path("models/<path:name>", views.model, name="openai-model"),
]
