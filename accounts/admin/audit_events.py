"""The record of what was done, as operators read it."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.admin import DateFieldListFilter
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter, FieldTextFilter
from unfold.decorators import display

from accounts.admin.base import HistoryAdmin, as_uuid
from accounts.admin.display import EMPTY, json_block, label
from accounts.models import AuditEvent


@admin.register(AuditEvent)
class AuditEventAdmin(HistoryAdmin):
    list_display = ("created_at", "action", "actor", "target", "shown_status", "address")
    list_filter = (
        ("action", FieldTextFilter),
        ("status", ChoicesDropdownFilter),
        ("created_at", DateFieldListFilter),
    )
    list_filter_submit = True
    search_fields = ("actor_email", "action")
    search_help_text = "Actor's e-mail, action, or the id of an event, actor or target"
    ordering = ("-id",)
    fields = (("created_at", "row_id"), ("action", "shown_status"), ("actor", "address"), "target", "details")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[AuditEvent], search_term: str
    ) -> tuple[QuerySet[AuditEvent], bool]:
        """An id finds the event itself, and what its owner did or had done to them."""
        found = as_uuid(search_term)
        if found is not None:
            return queryset.filter(Q(pk=found) | Q(actor_id=found) | Q(target_id=str(found))), False
        results: tuple[QuerySet[AuditEvent], bool] = super().get_search_results(request, queryset, search_term)
        return results

    @display(description="actor", ordering="actor_email")
    def actor(self, event: AuditEvent) -> SafeString | str:
        if event.actor_id is None:
            return "the system"
        address = reverse("admin:accounts_user_change", args=[event.actor_id])
        return format_html('<a class="text-link" href="{}">{}</a>', address, event.actor_email)

    @display(description="target", ordering="target_type")
    def target(self, event: AuditEvent) -> SafeString | str:
        if not event.target_type:
            return EMPTY
        app, _, model = event.target_type.partition(".")
        text = f"{model} …{event.target_id[-12:]}"
        try:
            address = reverse(f"admin:{app}_{model}_change", args=[event.target_id])
        except NoReverseMatch:
            return text
        return format_html('<a class="text-link" href="{}" title="{}">{}</a>', address, event.target_id, text)

    @display(description="status", ordering="status")
    def shown_status(self, event: AuditEvent) -> SafeString:
        return label(event.get_status_display(), "success" if event.status == AuditEvent.Status.SUCCESS else "danger")

    @display(description="IP", ordering="ip", empty_value=EMPTY)
    def address(self, event: AuditEvent) -> str | None:
        return event.ip

    @display(description="details")
    def details(self, event: AuditEvent) -> SafeString | str:
        return json_block(event.metadata)
