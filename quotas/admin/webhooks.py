"""Webhook endpoints, and what was sent to them. A secret is on one page, once."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.defaultfilters import pluralize, truncatechars
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import BooleanRadioFilter, ChoicesDropdownFilter, RelatedDropdownFilter
from unfold.decorators import action, display
from unfold.forms import BaseDialogForm
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from accounts.admin.base import AuditedAdmin, HistoryAdmin, as_uuid, operator
from accounts.admin.display import EMPTY, json_block, label, link_to, link_to_list
from quotas import webhooks
from quotas.admin.events import delivery_status
from quotas.deliveries import message
from quotas.models import Event, WebhookDelivery, WebhookEndpoint

Status = WebhookDelivery.Status
# Tests go to the endpoint that is tested, whatever it wants.
CHOICES = [(kind.value, f"{kind.value}: {kind.label}") for kind in Event.Type if kind != Event.Type.TEST]


class WebhookEndpointForm(forms.ModelForm):  # type: ignore[type-arg]
    event_types = forms.MultipleChoiceField(
        choices=CHOICES,
        required=False,
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text="None chosen: all of them, also those of later versions.",
    )

    class Meta:
        model = WebhookEndpoint
        fields: ClassVar = ["url", "description", "event_types", "is_active"]

    def clean(self) -> dict[str, Any]:
        """One that is switched on again has no reason to be off."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if cleaned.get("is_active"):
            self.instance.disabled_reason = ""
        return cleaned


@admin.register(WebhookEndpoint)
class WebhookEndpointAdmin(AuditedAdmin):
    form = WebhookEndpointForm
    purpose = (
        "Addresses that events are sent to, signed with a secret of their own. The secret is shown once, when the "
        "endpoint is made or the secret rotated. An endpoint that is not needed any more is switched off."
    )
    list_display = ("title", "state", "shown_types", "pending", "dead", "created_at")
    list_filter = (("is_active", BooleanRadioFilter),)
    search_fields = ("url", "description")
    ordering = ("id",)
    actions_detail = ("send_test", "rotate_secret", "replay_dead")
    readonly_fields = ("disabled_reason", "secret_state", "shown_deliveries", "row_id", "created_at", "updated_at")
    add_fieldsets = ((None, {"fields": ("url", "description", "event_types")}),)
    fieldsets = (
        (None, {"fields": ("url", "description", "event_types", "is_active", "disabled_reason")}),
        ("Sending", {"fields": (("secret_state", "shown_deliveries"),)}),
        ("Record", {"fields": (("created_at", "updated_at"), "row_id"), "classes": ("collapse",)}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[WebhookEndpoint]:
        endpoints: QuerySet[WebhookEndpoint] = super().get_queryset(request)
        return endpoints.annotate(
            waiting=Count("deliveries", filter=Q(deliveries__status=Status.PENDING)),
            given_up=Count("deliveries", filter=Q(deliveries__status=Status.DEAD)),
        )

    @display(description="endpoint", header=True, ordering="url")
    def title(self, endpoint: WebhookEndpoint) -> list[str]:
        return [endpoint.url, endpoint.description]

    @display(description="state", ordering="is_active")
    def state(self, endpoint: WebhookEndpoint) -> SafeString:
        return label("on", "success") if endpoint.is_active else label("off", "danger")

    @display(description="events")
    def shown_types(self, endpoint: WebhookEndpoint) -> str:
        return ", ".join(endpoint.event_types) or "all"

    @display(description="on their way", ordering="waiting")
    def pending(self, endpoint: WebhookEndpoint) -> int:
        return getattr(endpoint, "waiting", 0)

    @display(description="given up", ordering="given_up")
    def dead(self, endpoint: WebhookEndpoint) -> int:
        return getattr(endpoint, "given_up", 0)

    @display(description="secret")
    def secret_state(self, endpoint: WebhookEndpoint) -> str:
        if len(endpoint.secrets(timezone.now())) > 1:
            return f"the one before signs too until {endpoint.previous_expires_at:%Y-%m-%d %H:%M}"
        return "kept encrypted"

    @display(description="deliveries")
    def shown_deliveries(self, endpoint: WebhookEndpoint) -> SafeString:
        text = f"{self.pending(endpoint)} on their way, {self.dead(endpoint)} given up"
        return link_to_list(text, "quotas_webhookdelivery", endpoint__id__exact=endpoint.pk)

    # Permissions

    def has_delete_permission(self, request: HttpRequest, obj: WebhookEndpoint | None = None) -> bool:
        """What was sent to it is history."""
        return False

    def has_operate_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Named by the actions."""
        return bool(self.has_change_permission(request))

    # The secret

    def response_add(
        self, request: HttpRequest, obj: WebhookEndpoint, post_url_continue: str | None = None
    ) -> HttpResponse:
        """The secret is in the body of this one answer. A redirect would have to keep it somewhere in between."""
        return self.secret_page(request, obj, secret=obj.secret)

    @action(description="Rotate secret", icon="autorenew", permissions=["operate"])
    def rotate_secret(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """A page of its own: it asks, and then its answer holds the new secret."""
        endpoint = self.find(request, object_id)
        secret = ""
        if request.method == "POST":
            secret = webhooks.rotate_secret(endpoint_id=endpoint.pk, by=operator(request))
        return self.secret_page(request, endpoint, secret=secret)

    def secret_page(self, request: HttpRequest, endpoint: WebhookEndpoint, *, secret: str) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Signing secret" if secret else "Rotate the signing secret",
            "endpoint": endpoint,
            "secret": secret,
        }
        return TemplateResponse(request, "admin/quotas/webhookendpoint/secret.html", context)

    # Sending

    @action(
        description="Send a test event",
        icon="send",
        permissions=["operate"],
        dialog={
            "title": "Send a test event?",
            "description": "An event webhook.test goes to this endpoint alone, within seconds, as any other would. How "
            "it went is on the page of the delivery.",
            "form_class": BaseDialogForm,
            "form_submit_text": "Send",
        },
    )
    def send_test(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        endpoint = self.find(request, object_id)
        return self.carry_out(request, "A test event is on its way.", webhooks.send_test, endpoint=endpoint)

    @action(
        description="Replay dead",
        icon="replay",
        permissions=["operate"],
        dialog={
            "title": "Send again all that was given up?",
            "description": "Each is sent under its former id, so a receiver that has it already can tell.",
            "form_class": BaseDialogForm,
            "form_submit_text": "Send again",
        },
    )
    def replay_dead(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        count = webhooks.replay_dead(endpoint=self.find(request, object_id), by=operator(request))
        deliveries = f"{count} deliver{pluralize(count, 'y,ies')}"
        self.message_user(request, f"{deliveries} to be sent again.", messages.SUCCESS)
        return self.go_back(request)


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(HistoryAdmin):
    purpose = (
        "One event on its way to one endpoint. What fails is tried again for about two days, ever more rarely, and "
        "then given up; it can be sent again, or at once, from its page."
    )
    has_history = True
    list_display = ("created_at", "title", "shown_status", "outcome", "next_attempt")
    list_select_related = ("endpoint", "event")
    list_filter = (
        ("status", ChoicesDropdownFilter),
        ("endpoint", RelatedDropdownFilter),
        ("event__type", ChoicesDropdownFilter),
        ("created_at", admin.DateFieldListFilter),
    )
    list_filter_submit = True
    search_fields = ("endpoint__url",)
    search_help_text = "Address, or the id of an event (webhook-id) or a delivery"
    ordering = ("-id",)
    actions_detail = ("replay",)
    fieldsets = (
        (None, {"fields": (("shown_event", "endpoint"), ("shown_status", "attempts"), ("outcome", "next_attempt"))}),
        ("Time", {"fields": (("created_at", "last_attempt_at"), ("delivered_at", "row_id"))}),
        ("Body", {"fields": ("body",)}),
    )

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[WebhookDelivery], search_term: str
    ) -> tuple[QuerySet[WebhookDelivery], bool]:
        """Receivers know what they got by the id of the event."""
        if (wanted := as_uuid(search_term)) is not None:
            return queryset.filter(Q(pk=wanted) | Q(event_id=wanted)), False
        return super().get_search_results(request, queryset, search_term)

    @display(description="event", header=True, ordering="event__type")
    def title(self, delivery: WebhookDelivery) -> list[str]:
        """Long addresses would push the other columns out of sight."""
        return [delivery.event.type, truncatechars(str(delivery.endpoint), 50)]

    @display(description="event")
    def shown_event(self, delivery: WebhookDelivery) -> SafeString | str:
        return link_to(delivery.event, delivery.event.type)

    @display(description="status", ordering="status")
    def shown_status(self, delivery: WebhookDelivery) -> SafeString:
        return delivery_status(delivery)

    @display(description="last answer")
    def outcome(self, delivery: WebhookDelivery) -> str:
        return delivery.last_error or str(delivery.last_status_code or EMPTY)

    @display(description="next attempt", ordering="next_attempt_at")
    def next_attempt(self, delivery: WebhookDelivery) -> str:
        return f"{delivery.next_attempt_at:%Y-%m-%d %H:%M:%S}" if delivery.status == Status.PENDING else EMPTY

    @display(description="what is sent")
    def body(self, delivery: WebhookDelivery) -> SafeString | str:
        return json_block(json.loads(message(delivery.event)))

    def has_replay_permission(self, request: HttpRequest, obj: str | None = None) -> bool:
        """Named by the action."""
        return bool(request.user.has_perm("quotas.change_webhookdelivery"))

    @action(
        description="Replay",
        icon="replay",
        permissions=["replay"],
        dialog={
            "title": "Send this now?",
            "description": "What was delivered or given up is sent again, and what waits for another attempt waits no "
            "longer. The id stays, so a receiver that has it already can tell.",
            "form_class": BaseDialogForm,
            "form_submit_text": "Send now",
        },
    )
    def replay(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        delivery = self.find(request, object_id)
        return self.carry_out(request, "It is on its way.", webhooks.replay, delivery_id=delivery.pk)
