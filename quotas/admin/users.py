"""The plan and the quotas, added to the pages of users."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import F, FilteredRelation, Q, QuerySet
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import DropdownFilter
from unfold.decorators import action, display

from accounts.admin.data import is_gone
from accounts.admin.display import EMPTY, link_to
from accounts.admin.users import UserAdmin
from accounts.models import User
from quotas import billing, services
from quotas.admin.forms import NewQuotaDialog, PlanDialog
from quotas.admin.quota_page import glance
from quotas.admin.rights import may_adjust
from quotas.admin.stripe import stripe_link
from quotas.admin.subscriptions import CHANGE_PLAN, change_of_plan, planned, state_labels
from quotas.meters import Meter, each
from quotas.models import Plan, Subscription

QUOTAS = "Quotas"
PLAN_ACTIONS = {"title": "Plan", "icon": "sell", "items": ["change_plan", "add_quota"]}


class PlanFilter(DropdownFilter):
    title = "plan"
    parameter_name = "plan"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(plan.slug, plan.name) for plan in Plan.objects.all()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[User]) -> QuerySet[User]:
        return queryset.filter(Q(live__plan__slug=self.value())) if self.value() else queryset


admin.site.unregister(User)


@admin.register(User)
class UserWithPlanAdmin(UserAdmin):
    list_display = ("person", "plan", *UserAdmin.list_display[1:])
    list_filter = (PlanFilter, *UserAdmin.list_filter)
    list_filter_submit = True
    actions_detail = (PLAN_ACTIONS, *UserAdmin.actions_detail)
    readonly_fields = ("standing", "stripe_customer", "shown_quotas", *UserAdmin.readonly_fields)
    fieldsets = (
        (
            None,
            {
                "fields": (
                    *(("email", "full_name"), ("username", "preferred_model"), ("standing", "stripe_customer")),
                    "belongings",
                )
            },
        ),
        (QUOTAS, {"fields": ("shown_quotas",)}),
        *UserAdmin.fieldsets[1:],
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        """A user has at most one subscription that has not ended, so the join adds no rows."""
        live = FilteredRelation("subscriptions", condition=~Q(subscriptions__status__in=Subscription.ENDED))
        users: QuerySet[User] = super().get_queryset(request)
        return users.annotate(live=live).annotate(plan_name=F("live__plan__name"))

    @display(description="plan", ordering="plan_name")
    def plan(self, user: User) -> str:
        return getattr(user, "plan_name", None) or (EMPTY if is_gone(user) else "none yet")

    @display(description="plan")
    def standing(self, user: User) -> SafeString | str:
        live = Subscription.objects.live().filter(user=user).select_related("plan", "next_plan", "user").first()
        if live is None:
            return str(self.plan(user))
        return format_html("{} {} {}", link_to(live, live.plan.name), state_labels(live), planned(live) or "")

    def get_fieldsets(self, request: HttpRequest, obj: User | None = None) -> list[Any]:
        fieldsets = list(super().get_fieldsets(request, obj))
        if request.user.has_perm("quotas.view_quota"):
            return fieldsets
        return [(title, options) for title, options in fieldsets if title != QUOTAS]

    @display(description="what this user may use")
    def shown_quotas(self, user: User) -> SafeString | str:
        viewer: User | None = getattr(user, "viewer", None)
        return EMPTY if viewer is None else glance(user, viewer)

    @display(description="customer at Stripe")
    def stripe_customer(self, user: User) -> SafeString | str:
        return stripe_link("customers", user.stripe_customer_id)

    def save_model(self, request: HttpRequest, obj: User, form: ModelForm[User], change: bool) -> None:
        """A user who is made here has plan and quotas at once, so that an operator can go on to change them."""
        super().save_model(request, obj, form, change)
        if not change:
            services.provision(user_id=obj.pk)

    def has_change_plan_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.has_perm("quotas.change_subscription"))

    @action(description="Change plan", icon="swap_horiz", permissions=["change_plan"], dialog=CHANGE_PLAN)
    def change_plan(self, request: HttpRequest, form: PlanDialog, object_id: str) -> HttpResponse:
        user = self.find(request, object_id)
        done, change = change_of_plan(user, form)
        return self.carry_out(request, done, billing.change_plan, **change)

    def has_add_quota_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may_adjust(request)

    @action(
        description="Add quota",
        icon="add_circle",
        permissions=["add_quota"],
        dialog={
            "title": "Add a quota",
            "description": "For something that the user's plan does not limit. Plans do not change it.",
            "form_class": NewQuotaDialog,
            "form_submit_text": "Add quota",
        },
    )
    def add_quota(self, request: HttpRequest, form: NewQuotaDialog, object_id: str) -> HttpResponse:
        user, said = self.find(request, object_id), form.cleaned_data
        meter = Meter(said["resource"], said["unit"])
        terms = {"meter": meter, "period": said["period"], "limit": said["limit"], "reason": said["reason"]}
        done = f"{user} has a quota of {meter} {each(said['period'])} now."
        return self.carry_out(request, done, services.add_quota, user_id=user.pk, **terms)
