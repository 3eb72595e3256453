from django.urls import re_path

from accounts.ids import UUID_PATTERN
from accounts.routers import OptionalSlashRouter
from conversations import channel_views, live_views, search_views, transfer_views, views
from conversations.models.channels import CHANNEL_PATTERN

router = OptionalSlashRouter()
router.register("conversations", views.ConversationViewSet, basename="conversation")
router.register("channels", channel_views.ChannelViewSet, basename="channel")

urlpatterns = [
    re_path("^conversations/events/?$", live_views.events, name="conversation-events"),
    re_path(f"^conversations/(?P<pk>{UUID_PATTERN})/reply/?$", views.reply, name="conversation-reply"),
    re_path(
        f"^conversations/(?P<pk>{UUID_PATTERN})/messages/(?P<message_id>{UUID_PATTERN})/regenerate/?$",
        views.regenerate,
        name="message-regenerate",
    ),
    re_path(f"^channels/(?P<name>{CHANNEL_PATTERN})/messages/?$", views.channel_message, name="channel-message"),
    re_path("^conversations/search/?$", search_views.SearchView.as_view(), name="search-conversations"),
    re_path("^conversations/export/?$", transfer_views.ExportAllView.as_view(), name="export-conversations"),
    re_path("^conversations/import/?$", transfer_views.ImportView.as_view(), name="import-conversations"),
    re_path(
        f"^conversations/(?P<pk>{UUID_PATTERN})/export/?$",
        transfer_views.ExportOneView.as_view(),
        name="export-conversation",
    ),
    *router.urls,
]

openai_urlpatterns = [re_path("^chat/completions/?$", views.chat_completions, name="openai-chat")]
