"""Plans with their limits."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import Count, Q, QuerySet
from django.forms import BaseModelFormSet, ModelForm
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString
from unfold.admin import TabularInline
from unfold.contrib.filters.admin import BooleanRadioFilter
from unfold.decorators import action, display
from unfold.forms import BaseDialogForm

from accounts.admin.base import AuditedAdmin
from accounts.admin.display import EMPTY, label, link_to_list
from accounts.tasks import enqueue
from quotas import plan_rates, services
from quotas.admin.display import amount
from quotas.admin.forms import PlanForm
from quotas.meters import each
from quotas.models import Plan, PlanLimit, Subscription
from quotas.tasks import apply_plan_limits


class PlanLimitInline(TabularInline):
    model = PlanLimit
    extra = 0
    hide_title = True
    fields = ("resource_type", "unit", "period", "cycle", "limit", "soft_threshold", "overage_allowed")


@admin.register(Plan)
class PlanAdmin(AuditedAdmin):
    form = PlanForm
    list_display = ("title", "limits", "subscribers", "is_default", "is_active")
    list_filter = (("is_active", BooleanRadioFilter),)
    search_fields = ("name", "slug", "description", "stripe_price_id")
    ordering = ("position", "slug")
    inlines = (PlanLimitInline,)
    actions_detail = ("make_default",)
    readonly_fields = ("is_default", "subscribers", "reach", "row_id", "created_at", "updated_at")
    prepopulated_fields: ClassVar = {"slug": ("name",)}
    add_fieldsets = ((None, {"fields": ("name", "slug", "description", "is_active", "position")}),)
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("name", "slug"),
                    "description",
                    ("is_active", "position"),
                    ("is_default", "subscribers", "reach"),
                ),
                "description": "Changed limits reach all subscribers within moments; what they have used stays.",
            },
        ),
        ("Rate limits", {"fields": ("rate_limits",), "description": "Changes count at once, for all subscribers."}),
        ("Conversations", {"fields": ("conversation_retention_days",)}),
        ("Billing and features", {"fields": (("stripe_price_id", "trial_days"), "features")}),
        ("Record", {"fields": (("created_at", "updated_at"), "row_id"), "classes": ("collapse",)}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Plan]:
        live = Count("subscriptions", filter=~Q(subscriptions__status__in=Subscription.ENDED))
        plans: QuerySet[Plan] = super().get_queryset(request)
        return plans.annotate(live=live).prefetch_related("limits")

    @display(description="plan", header=True, ordering="name")
    def title(self, plan: Plan) -> list[str]:
        return [plan.name, plan.slug]

    @display(description="limits")
    def limits(self, plan: Plan) -> str:
        limits = (
            f"{amount(row.limit, row.unit)} {row.resource_type}.{row.unit} {each(row.period)}"
            for row in plan.limits.all()
        )
        return " · ".join(limits) or EMPTY

    @display(description="subscribers", ordering="live")
    def subscribers(self, plan: Plan) -> str:
        live = getattr(plan, "live", 0)
        return link_to_list(f"{live:,}", "quotas_subscription", plan__id__exact=plan.pk) if live else "0"

    @display(description="limits reached")
    def reach(self, plan: Plan) -> SafeString:
        return label("moving them", "warning") if plan.limits_changed_at else label("all")

    def save_related(
        self, request: HttpRequest, form: ModelForm[Plan], formsets: list[BaseModelFormSet[Any, Any]], change: bool
    ) -> None:
        super().save_related(request, form, formsets, change)
        if change and any(formset.has_changed() for formset in formsets):
            services.plan_limits_changed(plan=form.instance)
            enqueue(apply_plan_limits, str(form.instance.pk))

    def save_model(self, request: HttpRequest, obj: Plan, form: ModelForm[Plan], change: bool) -> None:
        super().save_model(request, obj, form, change)
        plan_rates.publish(plan=obj)

    def has_delete_permission(self, request: HttpRequest, obj: Plan | None = None) -> bool:
        """Only a plan that nobody is or was on; others are taken off the offer by making them inactive."""
        allowed: bool = super().has_delete_permission(request, obj)
        return allowed and (obj is None or not (obj.is_default or obj.subscriptions.exists()))

    def has_make_default_permission(self, request: HttpRequest, obj: str | None = None) -> bool:
        """Named by the action. `obj` is an id: the default cannot be made the default."""
        is_default = obj is not None and Plan.objects.filter(pk=obj, is_default=True).exists()
        return self.has_change_permission(request) and not is_default

    @action(
        description="Make the default",
        icon="star",
        permissions=["make_default"],
        dialog={
            "title": "Make this the default plan?",
            "description": "Users who come from now on get it. Those who are there stay on their plans.",
            "form_class": BaseDialogForm,
            "form_submit_text": "Make it the default",
        },
    )
    def make_default(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        plan = self.find(request, object_id)
        return self.carry_out(request, f"New users get {plan}.", services.set_default_plan, plan=plan)
