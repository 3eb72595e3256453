"""What has happened that users and other systems are told of."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter
from unfold.decorators import display

from accounts.admin.base import HistoryAdmin
from accounts.admin.display import EMPTY, json_block, label, link_to
from quotas.admin.display import amount
from quotas.models import Event, WebhookDelivery

EVENT_COLOURS: dict[str, str] = {Event.Type.SOFT_LIMIT_REACHED: "warning", Event.Type.LIMIT_REACHED: "danger"}
DELIVERY_COLOURS: dict[str, str] = {
    WebhookDelivery.Status.PENDING: "info",
    WebhookDelivery.Status.DELIVERED: "success",
    WebhookDelivery.Status.DEAD: "danger",
}


def delivery_status(delivery: WebhookDelivery) -> SafeString:
    return label(delivery.get_status_display(), DELIVERY_COLOURS[delivery.status])


@admin.register(Event)
class EventAdmin(HistoryAdmin):
    purpose = (
        "Written when it happens, such as when a user reaches a limit; a few seconds later, webhook endpoints and the "
        "user are told. A quota has one event of each kind in a period."
    )
    list_display = ("created_at", "shown_type", "user", "about", "dispatched_at")
    list_select_related = ("user",)
    list_filter = (
        ("type", ChoicesDropdownFilter),
        ("user", AutocompleteSelectFilter),
        ("created_at", admin.DateFieldListFilter),
    )
    list_filter_submit = True
    search_fields = ("user__email",)
    search_help_text = "User's e-mail or an event's id"
    ordering = ("-id",)
    fieldsets = (
        (None, {"fields": (("shown_type", "user"), ("created_at", "dispatched_at"), ("reset_date", "row_id"))}),
        ("Payload", {"fields": ("shown_payload",)}),
    )

    def get_fieldsets(self, request: HttpRequest, obj: Event | None = None) -> Any:
        """Where it was sent to is for those who may see the webhooks."""
        if not request.user.has_perm("quotas.view_webhookdelivery"):
            return self.fieldsets
        return (*self.fieldsets, ("Webhooks", {"fields": ("shown_deliveries",)}))

    @display(description="event", ordering="type")
    def shown_type(self, event: Event) -> SafeString:
        return label(event.get_type_display(), EVENT_COLOURS.get(event.type, ""))

    @display(description="about")
    def about(self, event: Event) -> str:
        said = event.payload
        if {"plan", "status"} <= said.keys():
            return f"{said['plan']}: {said['status']}{', suspended' if said.get('is_suspended') else ''}"
        if not {"resource", "unit", "usage", "limit"} <= said.keys():
            return EMPTY
        used, limit = amount(said["usage"], said["unit"]), amount(said["limit"], said["unit"])
        return f"{said['resource']}.{said['unit']}: {used} of {limit}"

    @display(description="payload")
    def shown_payload(self, event: Event) -> SafeString | str:
        return json_block(event.payload)

    @display(description="deliveries")
    def shown_deliveries(self, event: Event) -> SafeString | str:
        sent = event.deliveries.select_related("endpoint").order_by("id")
        rows = [(link_to(delivery, str(delivery.endpoint)), delivery_status(delivery)) for delivery in sent]
        return format_html_join("", '<p class="mb-2">{} {}</p>', rows) or EMPTY
