"""Plans with their limits, and who is on which."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import Count, Q, QuerySet
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString
from unfold.admin import TabularInline
from unfold.contrib.filters.admin import BooleanRadioFilter, ChoicesDropdownFilter, RelatedDropdownFilter
from unfold.decorators import action, display
from unfold.forms import BaseDialogForm

from accounts.admin.base import AuditedAdmin, OperatorAdmin
from accounts.admin.display import EMPTY, label, link_to_list
from quotas import plan_rates, services
from quotas.admin.display import amount
from quotas.admin.forms import PlanDialog, PlanForm
from quotas.models import Plan, PlanLimit, Subscription

STATUS_COLOURS: dict[str, str] = {
    Subscription.Status.ACTIVE: "success",
    Subscription.Status.TRIALING: "info",
    Subscription.Status.PAST_DUE: "warning",
    Subscription.Status.CANCELED: "danger",
}
CHANGE_PLAN = {
    "title": "Change plan",
    "description": "At once: usage stays, limits move to the new plan's, open grants stay until their period ends.",
    "form_class": PlanDialog,
    "form_submit_text": "Change plan",
}


class PlanLimitInline(TabularInline):
    model = PlanLimit
    extra = 0
    hide_title = True
    fields = ("resource_type", "unit", "period", "limit", "soft_threshold", "overage_allowed")


@admin.register(Plan)
class PlanAdmin(AuditedAdmin):
    form = PlanForm
    list_display = ("title", "limits", "subscribers", "is_default", "is_active")
    list_filter = (("is_active", BooleanRadioFilter),)
    search_fields = ("name", "slug", "description", "stripe_price_id")
    ordering = ("position", "slug")
    inlines = (PlanLimitInline,)
    actions_detail = ("make_default",)
    readonly_fields = ("is_default", "subscribers", "row_id", "created_at", "updated_at")
    prepopulated_fields: ClassVar = {"slug": ("name",)}
    add_fieldsets = ((None, {"fields": ("name", "slug", "description", "is_active", "position")}),)
    fieldsets = (
        (
            None,
            {
                "fields": (("name", "slug"), "description", ("is_active", "position"), ("is_default", "subscribers")),
                "description": "Changed limits are for users who get the plan from now on, or get it anew.",
            },
        ),
        ("Rate limits", {"fields": ("rate_limits",), "description": "Changes count at once, for all subscribers."}),
        ("Billing and features", {"fields": ("stripe_price_id", "features"), "classes": ("collapse",)}),
        ("Record", {"fields": (("created_at", "updated_at"), "row_id"), "classes": ("collapse",)}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Plan]:
        live = Count("subscriptions", filter=~Q(subscriptions__status=Subscription.Status.CANCELED))
        plans: QuerySet[Plan] = super().get_queryset(request)
        return plans.annotate(live=live).prefetch_related("limits")

    @display(description="plan", header=True, ordering="name")
    def title(self, plan: Plan) -> list[str]:
        return [plan.name, plan.slug]

    @display(description="limits")
    def limits(self, plan: Plan) -> str:
        limits = (
            f"{amount(row.limit, row.unit)} {row.resource_type}.{row.unit} a {row.period}" for row in plan.limits.all()
        )
        return " · ".join(limits) or EMPTY

    @display(description="subscribers", ordering="live")
    def subscribers(self, plan: Plan) -> str:
        live = getattr(plan, "live", 0)
        return link_to_list(f"{live:,}", "quotas_subscription", plan__id__exact=plan.pk) if live else "0"

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


@admin.register(Subscription)
class SubscriptionAdmin(OperatorAdmin):
    list_display = ("user", "plan", "shown_status", "current_period_start", "current_period_end", "canceled_at")
    list_select_related = ("user", "plan")
    list_filter = (("plan", RelatedDropdownFilter), ("status", ChoicesDropdownFilter))
    list_filter_submit = True
    search_fields = ("user__email", "stripe_subscription_id")
    search_help_text = "User's e-mail, Stripe's or our id"
    ordering = ("-id",)
    actions_detail = ("change_plan",)
    fields = (
        *(("user", "plan"), ("shown_status", "canceled_at"), ("current_period_start", "current_period_end")),
        *(("created_at", "updated_at"), ("row_id", "stripe_subscription_id")),
    )

    @display(description="status", ordering="status")
    def shown_status(self, subscription: Subscription) -> SafeString:
        return label(subscription.get_status_display(), STATUS_COLOURS[subscription.status])

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Subscription | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Subscription | None = None) -> bool:
        return False

    def has_change_plan_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.has_perm("quotas.change_subscription"))

    @action(description="Change plan", icon="swap_horiz", permissions=["change_plan"], dialog=CHANGE_PLAN)
    def change_plan(self, request: HttpRequest, form: PlanDialog, object_id: str) -> HttpResponse:
        subscription = self.find(request, object_id)
        plan = form.cleaned_data["plan"]
        return self.carry_out(
            request,
            f"{subscription.user} is on {plan} now.",
            services.change_plan,
            user_id=subscription.user_id,
            plan=plan,
        )
