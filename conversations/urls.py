from django.urls import re_path

from accounts.routers import OptionalSlashRouter
from conversations import views

router = OptionalSlashRouter()
router.register("conversations", views.ConversationViewSet, basename="conversation")

urlpatterns = router.urls

openai_urlpatterns = [re_path("^chat/completions/?$", views.chat_completions, name="openai-chat")]
