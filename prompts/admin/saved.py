"""Saved prompts belong to their users: operators read them, and bring files in for a user."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.widgets import AutocompleteSelect
from django.core.exceptions import ValidationError
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.defaultfilters import pluralize
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter, BooleanRadioFilter
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminFileFieldWidget, UnfoldAdminTextInputWidget, UnfoldBooleanWidget

from accounts.admin.base import HistoryAdmin, operator
from accounts.admin.display import EMPTY, label, link_to, link_to_list
from accounts.exceptions import DomainError
from accounts.models import User
from prompts.collections import MOST_NAME
from prompts.exceptions import ImportRefused, RowError
from prompts.models import Collection, SavedPrompt
from prompts.saved_import import Imported, import_prompts
from prompts.saved_rows import MOST_BYTES
from prompts.tree import Tree

MOST_SHOWN = 100


class ImportForm(forms.Form):
    user = forms.ModelChoiceField(
        queryset=User.objects.filter(is_active=True),
        widget=AutocompleteSelect(
            SavedPrompt._meta.get_field("user"),
            admin.site,
            attrs={"class": "unfold-admin-autocomplete admin-autocomplete", "data-theme": "admin-autocomplete"},
        ),
        help_text="Whose prompts they become. Search by e-mail, user name or id.",
        error_messages={"invalid_choice": "This user is not active."},
    )
    file = forms.FileField(
        widget=UnfoldAdminFileFieldWidget,
        help_text="An export of saved prompts (JSON or CSV), or a CSV with the columns act and prompt; in UTF-8.",
    )
    into = forms.CharField(
        label="Collection",
        max_length=MOST_NAME,
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text="Put everything in the one of this name; it is made if the user has none.",
    )
    good_rows = forms.BooleanField(
        label="Import the good rows",
        required=False,
        widget=UnfoldBooleanWidget,
        help_text="Leave out the rows that have errors. Otherwise one error keeps all rows out.",
    )

    def clean_file(self) -> Any:
        file = self.cleaned_data["file"]
        if file.size > MOST_BYTES:
            raise ValidationError(f"A file has at most {MOST_BYTES // 1024 // 1024} MB.")
        return file


def sharing_state(row: SavedPrompt | Collection) -> SafeString:
    """Who may read it, and whether that is said of the row or of a folder above it."""
    if row.is_shared:
        return label("everybody", "info")
    return label("everybody, through a folder", "info") if row.is_open else label("its owner")


@admin.register(SavedPrompt)
class SavedPromptAdmin(HistoryAdmin):
    purpose = (
        "Texts that users keep for the next time, in folders. Operators read them; only their owner changes them. A "
        "file of prompts can be brought in for a user."
    )
    has_history = True
    list_display = ("shown_title", "user", "collection", "shown_tags", "is_favourite", "shared_with", "updated_at")
    list_select_related = ("user", "collection")
    list_filter = (
        ("is_favourite", BooleanRadioFilter),
        ("is_open", BooleanRadioFilter),
        ("user", AutocompleteSelectFilter),
        ("created_at", admin.DateFieldListFilter),
    )
    list_filter_submit = True
    search_fields = ("title", "user__email", "content")
    search_help_text = "Title, text, user's e-mail or id"
    ordering = ("-id",)
    actions_list = ("import_file",)
    fields = (
        *(("title", "user"), "description", "text", ("place", "shown_tags"), ("is_favourite", "shared_with")),
        *(("shown_links", "row_id"), ("created_at", "updated_at")),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[SavedPrompt]:
        rows: QuerySet[SavedPrompt] = super().get_queryset(request)
        return rows.annotate(link_count=Count("links", filter=Q(links__revoked_at=None)))

    @display(description="prompt", header=True, ordering="title")
    def shown_title(self, prompt: SavedPrompt) -> list[str]:
        return [prompt.title, prompt.description[:100]]

    @display(description="content")
    def text(self, prompt: SavedPrompt) -> str:
        """The theme keeps the lines of what a method returns, and runs those of a field together."""
        return prompt.content

    @display(description="collection")
    def place(self, prompt: SavedPrompt) -> SafeString | str:
        if prompt.collection_id is None:
            return EMPTY
        path = Tree(prompt.user_id).path(prompt.collection_id)
        return link_to(prompt.collection, " / ".join(path))

    @display(description="tags")
    def shown_tags(self, prompt: SavedPrompt) -> str:
        return ", ".join(prompt.tags) or EMPTY

    @display(description="who may read it", ordering="is_open")
    def shared_with(self, prompt: SavedPrompt) -> SafeString:
        return sharing_state(prompt)

    @display(description="links")
    def shown_links(self, prompt: SavedPrompt) -> SafeString:
        text = f"{getattr(prompt, 'link_count', 0)} not revoked"
        return link_to_list(text, "prompts_sharelink", prompt__id__exact=prompt.pk)

    # Files

    def has_import_permission(self, request: HttpRequest) -> bool:
        """Named by the action."""
        return bool(request.user.has_perm("prompts.add_savedprompt"))

    @action(description="Import", icon="upload", permissions=["import"])
    def import_file(self, request: HttpRequest) -> HttpResponse:
        """A page of its own: it says which rows are broken."""
        form = ImportForm(request.POST or None, request.FILES or None)
        broken: list[RowError] = []
        if form.is_valid():
            try:
                done = self.import_for(request, form.cleaned_data)
            except ImportRefused as refusal:
                form.add_error("file", str(refusal))
                broken = refusal.rows
            except DomainError as refusal:
                form.add_error("file", str(refusal))
            else:
                broken = done.errors
                if not broken:
                    return self.list_of(form.cleaned_data["user"])
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Import saved prompts",
            "form": form,
            "media": self.media + form.media,
            "broken": broken[:MOST_SHOWN],
            "more": len(broken[MOST_SHOWN:]),
        }
        return TemplateResponse(request, "admin/prompts/savedprompt/import.html", context)

    def import_for(self, request: HttpRequest, asked: dict[str, Any]) -> Imported:
        done = import_prompts(
            user_id=asked["user"].pk,
            by=operator(request),
            data=asked["file"].read(),
            is_partial=asked["good_rows"],
            into=asked["into"],
        )
        made = f", {done.collections} collection{pluralize(done.collections)} made" if done.collections else ""
        self.message_user(request, f"Imported: {done.imported} new, {done.skipped} there already{made}.")
        if done.failed:
            self.message_user(request, f"Left out: {done.failed} that had errors.", "WARNING")
        return done

    def list_of(self, user: User) -> HttpResponse:
        address = reverse("admin:prompts_savedprompt_changelist")
        return HttpResponseRedirect(f"{address}?user__id__exact={user.pk}")
