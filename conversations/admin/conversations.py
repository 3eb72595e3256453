"""Conversations as operators read them: as a chat."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter, BooleanRadioFilter
from unfold.decorators import display

from accounts.admin.base import HistoryAdmin
from accounts.admin.display import json_block, label
from conversations import partitions
from conversations.models import Conversation, Message

MOST_MESSAGES = 200


@admin.register(Conversation)
class ConversationAdmin(HistoryAdmin):
    list_display = ("shown_title", "user", "channel", "messages_count", "state", "started_at", "last_activity")
    list_select_related = ("user",)
    list_filter = (
        ("is_active", BooleanRadioFilter),
        ("user", AutocompleteSelectFilter),
        ("started_at", admin.DateFieldListFilter),
    )
    list_filter_submit = True
    search_fields = ("title", "user__email", "channel")
    search_help_text = "Title, user's e-mail, channel or id"
    ordering = ("-id",)
    change_form_outer_after_template = "admin/conversations/conversation/chat.html"
    fields = (
        *(("user", "channel"), ("title", "model_override"), ("started_at", "last_activity")),
        *(("state", "row_id"), "tags", "details"),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Conversation]:
        """A subquery, not a join: only the rows of the page that is shown are counted."""
        counts = Message.objects.filter(conversation=OuterRef("pk")).order_by().values("conversation")
        conversations: QuerySet[Conversation] = super().get_queryset(request)
        return conversations.annotate(messages_count=Subquery(counts.annotate(count=Count("pk")).values("count")))

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if count := partitions.unplaced():
            text = f"{count:,} messages are in no month's partition. `manage.py manage_partitions` moves them there."
            self.message_user(request, text, messages.WARNING)
        answer: HttpResponse = super().changelist_view(request, extra_context)
        return answer

    @display(description="title", ordering="title")
    def shown_title(self, conversation: Conversation) -> str:
        return conversation.title or f"Without a title …{conversation.pk.hex[-6:]}"

    @display(description="messages", ordering="messages_count")
    def messages_count(self, conversation: Conversation) -> int:
        return getattr(conversation, "messages_count", None) or 0

    @display(description="state")
    def state(self, conversation: Conversation) -> SafeString:
        if conversation.deleted_at:
            return label("deleted", "danger")
        return label("active", "success") if conversation.is_active else label("archived")

    @display(description="metadata")
    def details(self, conversation: Conversation) -> str:
        return json_block(conversation.metadata)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        found = self.get_object(request, object_id)
        latest = found.messages.order_by("-sequence", "-id")[: MOST_MESSAGES + 1] if found else []
        said = list(latest)
        context = {
            "chat": said[:MOST_MESSAGES][::-1],
            "is_cut": len(said) > MOST_MESSAGES,
            **(extra_context or {}),
        }
        answer: HttpResponse = super().change_view(request, object_id, form_url, context)
        return answer
