"""The request history."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import (
    AutocompleteSelectFilter,
    BooleanRadioFilter,
    ChoicesDropdownFilter,
    DropdownFilter,
)
from unfold.decorators import display

from accounts.admin.base import HistoryAdmin
from accounts.admin.display import EMPTY, json_block, label, link_to
from inference.models import Model, Request
from quotas.admin.display import dollars

STATUS_COLOURS: dict[str, str] = {
    Request.Status.RUNNING: "info",
    Request.Status.SUCCESS: "success",
    Request.Status.ERROR: "danger",
    Request.Status.CANCELLED: "warning",
}
BODIES = "Bodies"


class ModelFilter(DropdownFilter):
    """The names that are offered now: a list of all that were ever asked for would read the whole history."""

    title = "model"
    parameter_name = "model"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        names = Model.objects.order_by("name").values_list("name", flat=True).distinct()
        return [(name, name) for name in names]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Request]) -> QuerySet[Request]:
        return queryset.filter(model=self.value()) if self.value() else queryset


@admin.register(Request)
class RequestAdmin(HistoryAdmin):
    list_display = (
        *("created_at", "user", "shown_type", "model", "shown_status"),
        *("tokens", "shown_cost", "milliseconds"),
    )
    list_select_related = ("user",)
    list_filter = (
        ("request_type", ChoicesDropdownFilter),
        ("status", ChoicesDropdownFilter),
        ModelFilter,
        ("is_stream", BooleanRadioFilter),
        ("user", AutocompleteSelectFilter),
        ("created_at", admin.DateFieldListFilter),
    )
    list_filter_submit = True
    search_fields = ("user__email", "model")
    search_help_text = "Request id, user's e-mail or model"
    ordering = ("-id",)
    fieldsets = (
        (None, {"fields": (("user", "key"), ("shown_type", "row_id"), ("model", "provider"), "shown_prompt")}),
        ("Outcome", {"fields": (("shown_status", "error_code"), "problem")}),
        (
            "Used",
            {
                "fields": (
                    *(("tokens", "cached_input_tokens"), ("seconds", "characters"), ("shown_cost", "usage")),
                    "hold",
                )
            },
        ),
        ("Time", {"fields": (("created_at", "finished_at"), ("first_byte", "milliseconds"))}),
        (BODIES, {"fields": ("asked", "answered")}),
    )

    def get_fieldsets(self, request: HttpRequest, obj: Request | None = None) -> list[Any]:
        """The bodies hold what people wrote: not for everyone who may look after their requests."""
        fieldsets = list(super().get_fieldsets(request, obj))
        if request.user.has_perm("inference.view_request_content"):
            return fieldsets
        return [(title, options) for title, options in fieldsets if title != BODIES]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Request]:
        """Lists do without the bodies, which are most of a row."""
        requests: QuerySet[Request] = super().get_queryset(request)
        resolved = request.resolver_match
        if resolved is not None and resolved.url_name == "inference_request_changelist":
            return requests.defer("request_data", "response_data", "error_message")
        return requests

    @display(description="status", ordering="status")
    def shown_status(self, request: Request) -> SafeString:
        text = request.error_code.replace("_", " ") or request.get_status_display()
        return label(text, STATUS_COLOURS[request.status])

    @display(description="error message")
    def problem(self, request: Request) -> str:
        return request.error_message or EMPTY

    @display(description="type", ordering="request_type")
    def shown_type(self, request: Request) -> str:
        return f"{request.request_type}, stream" if request.is_stream else request.request_type

    @display(description="API key")
    def key(self, request: Request) -> SafeString | str:
        return link_to(request.api_key)

    @display(description="prompt template")
    def shown_prompt(self, request: Request) -> str:
        """Its name, which came with the call, and the id of the version, by which the templates are found."""
        used = request.request_data.get("prompt")
        if request.prompt_version_id is None or not isinstance(used, dict):
            return EMPTY if request.prompt_version_id is None else str(request.prompt_version_id)
        return f"{used['name']}, version {used['version']} ({request.prompt_version_id})"

    @display(description="reservation")
    def hold(self, request: Request) -> SafeString | str:
        return link_to(request.reservation)

    @display(description="tokens, in · out", ordering="output_tokens")
    def tokens(self, request: Request) -> str:
        return f"{request.input_tokens:,} · {request.output_tokens:,}"

    @display(description="cost", ordering="cost")
    def shown_cost(self, request: Request) -> str:
        return dollars(request.cost)

    @display(description="ms", ordering="processing_time")
    def milliseconds(self, request: Request) -> str:
        return EMPTY if request.processing_time is None else f"{request.processing_time:,}"

    @display(description="ms to the first byte")
    def first_byte(self, request: Request) -> str:
        return EMPTY if request.first_byte_time is None else f"{request.first_byte_time:,}"

    @display(description="request")
    def asked(self, request: Request) -> SafeString | str:
        return json_block(request.request_data)

    @display(description="response")
    def answered(self, request: Request) -> SafeString | str:
        return json_block(request.response_data)
