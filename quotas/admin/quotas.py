"""What each user may use."""

from __future__ import annotations

from typing import Any, cast

from django.contrib import admin
from django.db.models import F, FloatField, Q, QuerySet, Value
from django.db.models.functions import Coalesce, NullIf
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter, DropdownFilter
from unfold.decorators import action, display

from accounts.admin.display import label
from accounts.admin.imports import ServiceTransferAdmin
from accounts.models import User
from quotas import services
from quotas.admin.display import amount, moment
from quotas.admin.forms import GrantDialog, LimitDialog, QuotaDialog
from quotas.admin.quota_page import quota_bar, quota_context
from quotas.admin.rights import may_adjust, may_support
from quotas.admin.transfers import LimitRows, QuotaResource
from quotas.meters import Meter
from quotas.models import Quota

TAKEN = F("current_usage") + F("held")
SHARE = Coalesce(TAKEN * Value(1.0) / NullIf(F("limit"), Value(0)), Value(1.0), output_field=FloatField())


class StateFilter(DropdownFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("full", "Used up"),
            ("warned", "Over its soft threshold"),
            ("held", "With open holds"),
            ("granted", "With an open grant"),
            ("overridden", "Agreed with the user"),
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
            case "overridden":
                return queryset.filter(is_override=True)
            case _:
                return queryset


@admin.register(Quota)
class QuotaAdmin(ServiceTransferAdmin):
    """Read-only but for actions, each of which asks for a reason and is audited by its service."""

    purpose = (
        "What each user may use, and has used. Limits come with the plan; one that is agreed with a user stays, "
        "whatever the plan says. A quota's own page shows where its limit comes from and what holds it."
    )
    resource_classes = (QuotaResource,)
    import_resource_classes = (LimitRows,)
    import_note = (
        "Each row is a limit agreed with one user, by e-mail address or id: what each period starts with, whatever the "
        "plan says. A cost is in micro-USD. Where the user has no such quota, one is added."
    )
    change_form_outer_before_template = "admin/quotas/quota/standing.html"
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
    actions_detail = ("grant_extra", "reset_usage", "change_limit", "clear_override")
    actions_row = ("grant_extra", "reset_usage", "change_limit")
    fieldsets = (
        (None, {"fields": (("user", "meter"), ("each", "resets"), ("soft_threshold", "overage_allowed"))}),
        ("Record", {"fields": (("created_at", "updated_at"), "row_id")}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Quota]:
        quotas: QuerySet[Quota] = super().get_queryset(request)
        # Budgets of keys are on the pages of the keys.
        return quotas.filter(api_key=None).annotate(share=SHARE)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        found = self.get_object(request, object_id)
        context = dict(extra_context or {})
        if found is not None and self.has_view_permission(request, found):
            viewer = cast("User", request.user)
            context |= quota_context(found, viewer=viewer, may_revoke=may_support(request))
        answer: HttpResponse = super().change_view(request, object_id, form_url, context)
        return answer

    @display(description="meter")
    def meter(self, quota: Quota) -> SafeString | str:
        meter = Meter(quota.resource_type, quota.unit)
        return format_html("{} {}", meter, label("agreed", "info")) if quota.is_override else str(meter)

    @display(description="period")
    def each(self, quota: Quota) -> str:
        return quota.get_period_display()

    @display(description="used", ordering="share")
    def usage(self, quota: Quota) -> SafeString:
        return quota_bar(quota)

    @display(description="left")
    def remaining(self, quota: Quota) -> str:
        return amount(quota.remaining, quota.unit)

    @display(description="resets", ordering="reset_date")
    def resets(self, quota: Quota) -> str:
        return moment(quota.reset_date) if quota.reset_date else "never"

    # Permissions

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Quota | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Quota | None = None) -> bool:
        return False

    def may_import(self, request: HttpRequest) -> bool:
        return may_adjust(request)

    def has_adjust_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may_adjust(request)

    def has_support_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may_support(request)

    def has_clear_override_permission(self, request: HttpRequest, obj: str | None = None) -> bool:
        """Named by the action. `obj` is an id: what follows the plan has nothing to give up."""
        if not may_adjust(request):
            return False
        found = self.get_object(request, obj) if obj else None
        return found is None or found.is_override

    # Actions

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
        extra, expires_at = form.cleaned_data["amount"], form.cleaned_data["expires_at"]
        until = f"until {moment(expires_at)}" if expires_at else "until it is spent"
        done = f"{quota.user}: {quota} has {amount(extra, quota.unit)} more {until}."
        given = {"amount": extra, "expires_at": expires_at, "reason": form.cleaned_data["reason"]}
        return self.carry_out(request, done, services.grant, quota=quota, **given)

    @action(
        description="Reset usage",
        icon="restart_alt",
        permissions=["support"],
        dialog={
            "title": "Reset usage",
            "description": "What was used in the running period is forgotten. Holds stay, and so does what is left "
            "of grants.",
            "form_class": QuotaDialog,
            "form_submit_text": "Reset usage",
        },
    )
    def reset_usage(self, request: HttpRequest, form: QuotaDialog, object_id: str) -> HttpResponse:
        quota = self.find(request, object_id)
        done = f"{quota.user}: the usage of {quota} starts at zero."
        return self.carry_out(request, done, services.reset_usage, quota=quota, reason=form.cleaned_data["reason"])

    @action(
        description="Change limit",
        icon="tune",
        permissions=["adjust"],
        dialog={
            "title": "Change limit",
            "description": "For this user alone: from then on, plans do not change it.",
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
        description="Follow the plan",
        icon="link",
        permissions=["clear_override"],
        dialog={
            "title": "Follow the plan again?",
            "description": "The limit agreed with this user is given up for the plan's. A quota that the plan does "
            "not know goes, with its grants, if the plan measures the resource in another way; else it admits "
            "nothing more.",
            "form_class": QuotaDialog,
            "form_submit_text": "Follow the plan",
        },
    )
    def clear_override(self, request: HttpRequest, form: QuotaDialog, object_id: str) -> HttpResponse:
        quota = self.find(request, object_id)
        done, reason = f"{quota.user}: {quota} follows the plan.", form.cleaned_data["reason"]
        answer = self.carry_out(request, done, services.clear_override, quota=quota, reason=reason)
        if Quota.objects.filter(pk=quota.pk).exists():
            return answer
        return HttpResponse(headers={"HX-Redirect": reverse("admin:accounts_user_change", args=[quota.user_id])})
