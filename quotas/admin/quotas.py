"""What each user may use, and the holds on it."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import F, FloatField, Q, QuerySet, Value
from django.db.models.functions import Coalesce, NullIf
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter, DropdownFilter
from unfold.decorators import action, display

from accounts.admin.base import HistoryAdmin, OperatorAdmin
from accounts.admin.display import json_block, label
from quotas import services
from quotas.admin.display import amount, amounts, bar
from quotas.admin.forms import GrantDialog, LimitDialog, QuotaDialog
from quotas.meters import Meter
from quotas.models import Quota, Reservation

TAKEN = F("current_usage") + F("held")
SHARE = Coalesce(TAKEN * Value(1.0) / NullIf(F("limit"), Value(0)), Value(1.0), output_field=FloatField())

RESERVATION_COLOURS: dict[str, str] = {
    Reservation.Status.HELD: "info",
    Reservation.Status.CONFIRMED: "success",
    Reservation.Status.EXPIRED: "warning",
}


class StateFilter(DropdownFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("full", "Used up"),
            ("warned", "Over its soft threshold"),
            ("held", "With open holds"),
            ("granted", "With an open grant"),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Quota]) -> QuerySet[Quota]:
        match self.value():
            case "full":
                return queryset.filter(Q(limit__lte=TAKEN))
            case "warned":
                return queryset.filter(Q(limit__lte=TAKEN * 100 / F("soft_threshold")))
            case "held":
                return queryset.filter(held__gt=0)
            case "granted":
                return queryset.filter(granted__gt=0)
            case _:
                return queryset


@admin.register(Quota)
class QuotaAdmin(OperatorAdmin):
    """Read-only but for three actions, each of which asks for a reason and is audited by its service."""

    list_display = ("user", "meter", "each", "usage", "remaining", "resets")
    list_select_related = ("user",)
    list_filter = (
        StateFilter,
        ("resource_type", ChoicesDropdownFilter),
        ("unit", ChoicesDropdownFilter),
        ("period", ChoicesDropdownFilter),
        ("user", AutocompleteSelectFilter),
    )
    list_filter_submit = True
    search_fields = ("user__email",)
    search_help_text = "User's e-mail or a quota's id"
    ordering = ("user__email", "resource_type", "unit", "period")
    actions_detail = ("change_limit", "grant_extra", "reset_usage")
    actions_row = ("change_limit", "grant_extra", "reset_usage")
    fieldsets = (
        (None, {"fields": (("user", "meter"), ("usage", "remaining"), ("period", "reset_date"))}),
        ("Rules", {"fields": (("shown_limit", "limit_now"), ("soft_threshold", "overage_allowed"))}),
        ("Record", {"fields": (("created_at", "updated_at"), "row_id")}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Quota]:
        quotas: QuerySet[Quota] = super().get_queryset(request)
        # Budgets of keys are on the pages of the keys.
        return quotas.filter(api_key=None).annotate(share=SHARE)

    @display(description="meter")
    def meter(self, quota: Quota) -> str:
        return str(Meter(quota.resource_type, quota.unit))

    @display(description="period")
    def each(self, quota: Quota) -> str:
        return quota.get_period_display()

    @display(description="used", ordering="share")
    def usage(self, quota: Quota) -> SafeString:
        return bar(
            used=quota.current_usage,
            held=quota.held,
            limit=quota.limit,
            unit=quota.unit,
            warn_at=quota.soft_threshold,
        )

    @display(description="left")
    def remaining(self, quota: Quota) -> str:
        return amount(quota.remaining, quota.unit)

    @display(description="limit of each period")
    def shown_limit(self, quota: Quota) -> str:
        return amount(quota.base_limit, quota.unit)

    @display(description="limit until the reset")
    def limit_now(self, quota: Quota) -> str:
        return amount(quota.limit, quota.unit)

    @display(description="resets", ordering="reset_date")
    def resets(self, quota: Quota) -> str:
        return f"{quota.reset_date:%Y-%m-%d %H:%M}" if quota.reset_date else "never"

    # Permissions

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Quota | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Quota | None = None) -> bool:
        return False

    def has_adjust_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.has_perm("quotas.change_quota"))

    def has_support_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """What support may do lasts until the next reset at most."""
        return self.has_adjust_permission(request) or bool(request.user.has_perm("accounts.support_user"))

    # Actions

    @action(
        description="Change limit",
        icon="tune",
        permissions=["adjust"],
        dialog={
            "title": "Change limit",
            "description": "",
            "form_class": LimitDialog,
            "form_submit_text": "Change limit",
        },
    )
    def change_limit(self, request: HttpRequest, form: LimitDialog, object_id: str) -> HttpResponse:
        quota = self.find(request, object_id)
        limit, reason = form.cleaned_data["limit"], form.cleaned_data["reason"]
        done = f"{quota.user}: {quota} is limited to {amount(limit, quota.unit)}."
        return self.carry_out(request, done, services.set_limit, quota=quota, limit=limit, reason=reason)

    @action(
        description="Grant extra",
        icon="add_circle",
        permissions=["support"],
        dialog={
            "title": "Grant extra",
            "description": "",
            "form_class": GrantDialog,
            "form_submit_text": "Grant",
        },
    )
    def grant_extra(self, request: HttpRequest, form: GrantDialog, object_id: str) -> HttpResponse:
        quota = self.find(request, object_id)
        extra, reason = form.cleaned_data["amount"], form.cleaned_data["reason"]
        done = f"{quota.user}: {quota} has {amount(extra, quota.unit)} more until it resets."
        return self.carry_out(request, done, services.grant, quota=quota, amount=extra, reason=reason)

    @action(
        description="Reset usage",
        icon="restart_alt",
        permissions=["support"],
        dialog={
            "title": "Reset usage",
            "description": "What was used in the running period is forgotten. Holds and grants stay.",
            "form_class": QuotaDialog,
            "form_submit_text": "Reset usage",
        },
    )
    def reset_usage(self, request: HttpRequest, form: QuotaDialog, object_id: str) -> HttpResponse:
        quota = self.find(request, object_id)
        done = f"{quota.user}: the usage of {quota} starts at zero."
        return self.carry_out(request, done, services.reset_usage, quota=quota, reason=form.cleaned_data["reason"])


@admin.register(Reservation)
class ReservationAdmin(HistoryAdmin):
    list_display = ("created_at", "user", "shown_status", "shown_amounts", "shown_used", "expires_at", "settled_at")
    list_select_related = ("user",)
    list_filter = (
        ("status", ChoicesDropdownFilter),
        ("user", AutocompleteSelectFilter),
        ("created_at", admin.DateFieldListFilter),
    )
    list_filter_submit = True
    search_fields = ("user__email", "=idempotency_key")
    search_help_text = "User's e-mail, idempotency key, or id"
    ordering = ("-id",)
    fieldsets = (
        (None, {"fields": (("user", "shown_status"), ("row_id", "idempotency_key"))}),
        ("Amounts", {"fields": (("shown_amounts", "shown_used"), ("shown_holds", "shown_charged"))}),
        ("Time", {"fields": ("created_at", ("expires_at", "settled_at"))}),
    )

    @display(description="status", ordering="status")
    def shown_status(self, reservation: Reservation) -> SafeString:
        return label(reservation.get_status_display(), RESERVATION_COLOURS.get(reservation.status, ""))

    @display(description="held")
    def shown_amounts(self, reservation: Reservation) -> str:
        return amounts(reservation.amounts)

    @display(description="used")
    def shown_used(self, reservation: Reservation) -> str:
        return amounts(reservation.used)

    @display(description="held on quotas")
    def shown_holds(self, reservation: Reservation) -> SafeString | str:
        return json_block(reservation.holds)

    @display(description="charged to quotas")
    def shown_charged(self, reservation: Reservation) -> SafeString | str:
        return json_block(reservation.charged)
