"""The limits of all plans in one list. A single one is changed on the page of its plan, many by a file."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter, RelatedDropdownFilter
from unfold.decorators import display

from accounts.admin.display import link_to
from accounts.admin.imports import ServiceTransferAdmin
from quotas.admin.display import amount
from quotas.admin.transfers import PlanLimitResource, PlanLimitRows
from quotas.models import PlanLimit


@admin.register(PlanLimit)
class PlanLimitAdmin(ServiceTransferAdmin):
    purpose = (
        "What the plans say, side by side. A single limit is changed on the page of its plan; a file changes many. "
        "Changed limits reach all subscribers within moments; what they have used stays."
    )
    resource_classes = (PlanLimitResource,)
    import_resource_classes = (PlanLimitRows,)
    import_note = (
        "Each row is the limit of a plan, named by its slug, on one unit of a resource in one period; a cost is in "
        "micro-USD, overage_allowed is yes or no. Limits that the file does not name stay as they are."
    )
    list_display = ("meter", "plan_link", "period", "cycle", "shown_limit", "soft_threshold", "overage_allowed")
    list_select_related = ("plan",)
    list_filter = (
        ("plan", RelatedDropdownFilter),
        ("resource_type", ChoicesDropdownFilter),
        ("unit", ChoicesDropdownFilter),
        ("period", ChoicesDropdownFilter),
    )
    list_filter_submit = True
    sortable_by = ("shown_limit",)
    search_help_text = "Plan, resource or unit"
    search_fields = ("plan__name", "plan__slug", "resource_type", "unit")
    ordering = ("resource_type", "unit", "period", "plan__position")
    has_history = False
    fieldsets = (
        (None, {"fields": (("meter", "plan_link"), ("period", "cycle"), ("shown_limit", "soft_threshold"))}),
        ("Record", {"fields": ("overage_allowed", "row_id")}),
    )

    @display(description="meter")
    def meter(self, limit: PlanLimit) -> str:
        return f"{limit.resource_type}.{limit.unit}"

    @display(description="plan")
    def plan_link(self, limit: PlanLimit) -> SafeString | str:
        return link_to(limit.plan)

    @display(description="limit", ordering="limit")
    def shown_limit(self, limit: PlanLimit) -> str:
        return amount(limit.limit, limit.unit)

    def may_import(self, request: HttpRequest) -> bool:
        return request.user.has_perm("quotas.change_plan") and request.user.has_perm("quotas.change_planlimit")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: PlanLimit | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: PlanLimit | None = None) -> bool:
        return False
