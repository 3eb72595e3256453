"""What Stripe has sent."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.decorators import action, display
from unfold.forms import BaseDialogForm

from accounts.admin.base import HistoryAdmin
from accounts.admin.display import EMPTY, json_block, label, link_to
from accounts.models import User
from quotas import stripe_events, stripe_sync
from quotas.models import StripeEvent

# Stripe's own ids fit; the list stays readable whatever was sent.
MOST_ID_LETTERS = 24

STATUS_COLOURS: dict[str, str] = {StripeEvent.Status.APPLIED: "success", StripeEvent.Status.FAILED: "danger"}


def stripe_link(kind: str, stripe_id: str | None) -> SafeString | str:
    """A link to Stripe's own dashboard, to the part that the key is of."""
    if not stripe_id:
        return EMPTY
    test = "test/" if "_test_" in settings.STRIPE_SECRET_KEY else ""
    address = f"https://dashboard.stripe.com/{test}{kind}/{stripe_id}"
    return format_html('<a class="text-link" href="{}" rel="noreferrer" target="_blank">{}</a>', address, stripe_id)


@admin.register(StripeEvent)
class StripeEventAdmin(HistoryAdmin):
    purpose = "Each is a hint that a customer has changed at Stripe, and is applied once. A failed one is sent again."
    has_history = True
    list_display = ("type", "shown_status", "reason", "short_customer", "received_at", "attempts")
    list_filter = (("status", ChoicesDropdownFilter),)
    list_filter_submit = True
    search_fields = ("stripe_id", "type", "customer_id")
    search_help_text = "Stripe's id of the event or the customer, or a type"
    ordering = ("-id",)
    actions_detail = ("replay",)
    fieldsets = (
        (
            None,
            {
                "fields": (
                    *(("type", "stripe_id"), ("shown_status", "attempts"), "reason", ("user", "customer")),
                    *(("created_at", "received_at"), ("applied_at", "api_version"), "row_id"),
                )
            },
        ),
        ("Payload", {"fields": ("shown_payload",)}),
    )

    @display(description="status", ordering="status")
    def shown_status(self, event: StripeEvent) -> SafeString:
        return label(event.get_status_display(), STATUS_COLOURS.get(event.status, ""))

    @display(description="customer", ordering="customer_id")
    def short_customer(self, event: StripeEvent) -> str:
        return Truncator(event.customer_id).chars(MOST_ID_LETTERS) or EMPTY

    @display(description="user")
    def user(self, event: StripeEvent) -> SafeString | str:
        user_id = stripe_sync.owner_of(event.customer_id) if event.customer_id else None
        return link_to(User.objects.filter(pk=user_id).first() if user_id else None)

    @display(description="customer")
    def customer(self, event: StripeEvent) -> SafeString | str:
        return stripe_link("customers", event.customer_id)

    @display(description="payload")
    def shown_payload(self, event: StripeEvent) -> SafeString | str:
        return json_block(event.payload)

    def has_replay_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.has_perm("quotas.change_stripeevent"))

    @action(
        description="Replay",
        icon="replay",
        permissions=["replay"],
        dialog={
            "title": "Replay this event?",
            "description": "The customer is read from Stripe as it is now, and written down. To repeat it is harmless.",
            "form_class": BaseDialogForm,
            "form_submit_text": "Replay",
        },
    )
    def replay(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        event = self.find(request, object_id)
        return self.carry_out(request, f"{event.type} was replayed.", stripe_events.replay, event=event)
