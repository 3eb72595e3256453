"""Folders of saved prompts, as operators read them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import admin
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter, BooleanRadioFilter
from unfold.decorators import display

from accounts.admin.base import HistoryAdmin
from accounts.admin.display import EMPTY, link_to, link_to_list
from prompts.admin.saved import sharing_state
from prompts.models import Collection, SavedPrompt
from prompts.tree import MOST_DEPTH, Tree

MOST_FOLDERS = 200
MOST_PROMPTS = 50


@admin.register(Collection)
class CollectionAdmin(HistoryAdmin):
    purpose = "The folders that users keep their saved prompts in. What is shared, everybody can read with all in it."
    has_history = True
    list_display = ("name", "user", "place", "prompt_count", "shared_with", "created_at")
    list_select_related = ("user", "__".join(["parent"] * (MOST_DEPTH - 1)))
    list_filter = (
        ("is_open", BooleanRadioFilter),
        ("user", AutocompleteSelectFilter),
        ("created_at", admin.DateFieldListFilter),
    )
    list_filter_submit = True
    search_fields = ("name", "description", "user__email")
    search_help_text = "Name, description, user's e-mail or id"
    ordering = ("-id",)
    change_form_outer_after_template = "admin/prompts/collection/tree.html"
    fields = (
        *(("name", "user"), "description", ("place", "shared_with"), ("shown_links", "row_id")),
        ("created_at", "updated_at"),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Collection]:
        rows: QuerySet[Collection] = super().get_queryset(request)
        return rows.annotate(
            prompts_in_it=Count("prompts", distinct=True),
            link_count=Count("links", filter=Q(links__revoked_at=None), distinct=True),
        )

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        found = self.get_object(request, object_id)
        context = {**(page_context(found) if found else {}), **(extra_context or {})}
        answer: HttpResponse = super().change_view(request, object_id, form_url, context)
        return answer

    @display(description="in", ordering="parent__name")
    def place(self, folder: Collection) -> SafeString | str:
        """Its whole path: names are unique in a folder only."""
        names: list[str] = []
        above = folder.parent
        while above is not None:
            names.insert(0, above.name)
            above = above.parent
        path = format_html_join(" / ", "<bdi>{}</bdi>", ((name,) for name in names))
        return link_to(folder.parent, path)

    @display(description="prompts", ordering="prompts_in_it")
    def prompt_count(self, folder: Collection) -> SafeString:
        count = getattr(folder, "prompts_in_it", 0)
        return link_to_list(f"{count:,}", "prompts_savedprompt", collection__id__exact=folder.pk)

    @display(description="who may read it", ordering="is_open")
    def shared_with(self, folder: Collection) -> SafeString:
        return sharing_state(folder)

    @display(description="links")
    def shown_links(self, folder: Collection) -> SafeString:
        text = f"{getattr(folder, 'link_count', 0)} not revoked"
        return link_to_list(text, "prompts_sharelink", collection__id__exact=folder.pk)


def page_context(folder: Collection) -> dict[str, Any]:
    """All folders of its owner, and the first prompts in this one."""
    tree = Tree(folder.user_id)
    folders = list(tree.below(None))
    prompts = SavedPrompt.objects.filter(collection=folder).order_by("position", "id").only("title", "is_open")
    found = list(prompts[: MOST_PROMPTS + 1])
    return {
        "folders": {"headers": ["Folder", "Prompts"], "rows": _rows(tree, folders[:MOST_FOLDERS], folder.pk)},
        "more_folders": len(folders[MOST_FOLDERS:]),
        "prompts": [link_to(prompt) for prompt in found[:MOST_PROMPTS]],
        "all_prompts": link_to_list("All of them", "prompts_savedprompt", collection__id__exact=folder.pk)
        if found[MOST_PROMPTS:]
        else "",
    }


def _rows(tree: Tree, folders: list[Collection], current: UUID) -> list[list[Any]]:
    counted = SavedPrompt.objects.filter(collection__in=[folder.pk for folder in folders])
    counts = dict(counted.order_by().values_list("collection").annotate(count=Count("id")))
    rows = []
    for folder in folders:
        name = format_html("<strong>{}</strong>", folder.name) if folder.pk == current else link_to(folder)
        depth = len(tree.path(folder.parent_id))
        placed = format_html('<span class="folder" data-depth="{}">{}</span>', depth, name)
        rows.append([placed, counts.get(folder.pk) or EMPTY])
    return rows
