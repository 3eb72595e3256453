from django.urls import re_path

from accounts.ids import UUID_PATTERN
from accounts.routers import OptionalSlashRouter
from conversations import views

router = OptionalSlashRouter()
router.register("conversations", views.ConversationViewSet, basename="conversation")

urlpatterns = [
    re_path(f"^conversations/(?P<pk>{UUID_PATTERN})/reply/?$", views.reply, name="conversation-reply"),
    *router.urls,
]

openai_urlpatterns = [re_path("^chat/completions/?$", views.chat_completions, name="openai-chat")]
