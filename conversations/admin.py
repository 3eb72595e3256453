"""Conversations as operators read them: as a chat."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from unfold.contrib.filters.admin import AutocompleteSelectFilter, BooleanRadioFilter
from unfold.decorators import display

from accounts.admin.base import HistoryAdmin
from accounts.admin.display import json_block
from conversations.models import Conversation, Message

MOST_MESSAGES = 200


@admin.register(Conversation)
class ConversationAdmin(HistoryAdmin):
    list_display = ("shown_title", "user", "channel", "messages_count", "is_active", "started_at", "last_activity")
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
        *(("is_active", "row_id"), "details"),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Conversation]:
        """A subquery, not a join: only the rows of the page that is shown are counted."""
        counts = Message.objects.filter(conversation=OuterRef("pk")).order_by().values("conversation")
        conversations: QuerySet[Conversation] = super().get_queryset(request)
        return conversations.annotate(messages_count=Subquery(counts.annotate(count=Count("pk")).values("count")))

    @display(description="title", ordering="title")
    def shown_title(self, conversation: Conversation) -> str:
        return conversation.title or f"Without a title …{conversation.pk.hex[-6:]}"

    @display(description="messages", ordering="messages_count")
    def messages_count(self, conversation: Conversation) -> int:
        return getattr(conversation, "messages_count", None) or 0

    @display(description="metadata")
    def details(self, conversation: Conversation) -> str:
        return json_block(conversation.metadata)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        found = self.get_object(request, object_id)
        latest = found.messages.order_by("-id")[: MOST_MESSAGES + 1] if found else []
        messages = list(latest)
        context = {
            "chat": messages[:MOST_MESSAGES][::-1],
            "is_cut": len(messages) > MOST_MESSAGES,
            **(extra_context or {}),
        }
        answer: HttpResponse = super().change_view(request, object_id, form_url, context)
        return answer
