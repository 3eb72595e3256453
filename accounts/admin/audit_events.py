"""The record of what was done, as operators read it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin import DateFieldListFilter
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ALL_VAR, ORDER_VAR, PAGE_VAR
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter, FieldTextFilter
from unfold.decorators import action, display

from accounts import audit, audit_export
from accounts.admin.base import HistoryAdmin, as_uuid, operator
from accounts.admin.display import EMPTY, json_block, label
from accounts.downloads import download
from accounts.models import AuditEvent


@admin.register(AuditEvent)
class AuditEventAdmin(HistoryAdmin):
    purpose = (
        "Who did what to whom: sign-ins, and every change that operators and users make. Nobody can change or delete "
        "an event. An export holds all events that the search and the filters leave."
    )
    list_display = ("created_at", "action", "actor", "target", "shown_status", "address")
    list_filter = (
        ("action", FieldTextFilter),
        ("status", ChoicesDropdownFilter),
        ("created_at", DateFieldListFilter),
    )
    list_filter_submit = True
    search_fields = ("actor_email", "action", "target_id", "ip")
    search_help_text = "E-mail, action, IP, or any id"
    ordering = ("-id",)
    actions_list = ("export_csv", "export_json")
    fields = (
        *(("created_at", "row_id"), ("action", "shown_status"), ("actor", "address"), ("target", "user_agent")),
        "details",
    )

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[AuditEvent], search_term: str
    ) -> tuple[QuerySet[AuditEvent], bool]:
        """A whole id finds the event itself, and what its owner did or had done to them; a whole IP only itself."""
        found = as_uuid(search_term)
        if found is not None:
            return queryset.filter(Q(pk=found) | Q(actor_id=found) | Q(target_id=str(found))), False
        if is_ip(search_term):
            return queryset.filter(ip=search_term.strip()), False
        results: tuple[QuerySet[AuditEvent], bool] = super().get_search_results(request, queryset, search_term)
        return results

    @display(description="actor", ordering="actor_email")
    def actor(self, event: AuditEvent) -> SafeString | str:
        if event.actor_id is None:
            return "nobody signed in" if event.ip else "the system"
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

    # Exporting

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """What is exported is what the list is of: the links carry its search and filters on."""
        answer: HttpResponse = super().changelist_view(request, extra_context)
        asked = filters_of(request)
        if asked and isinstance(answer, TemplateResponse) and answer.context_data:
            for link in answer.context_data["actions_list"]:
                link["path"] += f"?{asked.urlencode()}"
        return answer

    @action(description="Export CSV", icon="download", permissions=["view"])
    def export_csv(self, request: HttpRequest) -> HttpResponseBase:
        return self.export(request, "csv", "text/csv; charset=utf-8", audit_export.as_csv)

    @action(description="Export JSON", icon="data_object", permissions=["view"])
    def export_json(self, request: HttpRequest) -> HttpResponseBase:
        return self.export(request, "json", "application/json", audit_export.as_json)

    def export(
        self,
        request: HttpRequest,
        form: str,
        content_type: str,
        pieces: Callable[[QuerySet[AuditEvent]], Iterator[bytes]],
    ) -> HttpResponseBase:
        """All events that the list is of, without that of the export, which names the filters but not their values."""
        try:
            events = self.get_changelist_instance(request).queryset
        except IncorrectLookupParameters:
            self.message_user(request, "There is no such filter.", messages.ERROR)
            return HttpResponseRedirect(reverse("admin:accounts_auditevent_changelist"))
        filters = sorted({name.partition("__")[0] for name in filters_of(request)})
        asked = audit.record("audit.exported", by=operator(request), format=form, filters=filters)
        name = f"mainstay-audit-{timezone.now():%Y-%m-%d}.{form}"
        return download(request, pieces(events.filter(pk__lt=asked.pk)), name=name, content_type=content_type)


def filters_of(request: HttpRequest) -> QueryDict:
    """What narrows a list down: neither the page that is shown, nor the order, nor fields that were left empty."""
    asked = request.GET.copy()
    for name in request.GET:
        if name in {PAGE_VAR, ORDER_VAR, ALL_VAR} or not any(asked.getlist(name)):
            del asked[name]
    return asked


def is_ip(text: str) -> bool:
    try:
        ip_address(text.strip())
    except ValueError:
        return False
    return True
