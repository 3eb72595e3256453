"""Saved prompts belong to their users: operators read them."""

from __future__ import annotations

from django.contrib import admin
from unfold.contrib.filters.admin import AutocompleteSelectFilter, BooleanRadioFilter
from unfold.decorators import display

from accounts.admin.base import HistoryAdmin
from prompts.models import SavedPrompt


@admin.register(SavedPrompt)
class SavedPromptAdmin(HistoryAdmin):
    list_display = ("title", "user", "is_favourite", "created_at", "updated_at")
    list_select_related = ("user",)
    list_filter = (
        ("is_favourite", BooleanRadioFilter),
        ("user", AutocompleteSelectFilter),
        ("created_at", admin.DateFieldListFilter),
    )
    list_filter_submit = True
    search_fields = ("title", "user__email", "content")
    search_help_text = "Title, text, user's e-mail or id"
    ordering = ("-id",)
    fields = (("title", "user"), "text", ("is_favourite", "row_id"), ("created_at", "updated_at"))

    @display(description="content")
    def text(self, prompt: SavedPrompt) -> str:
        """The theme keeps the lines of what a method returns, and runs those of a field together."""
        return prompt.content
