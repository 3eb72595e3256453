"""Who is on which plan, and what operators do about it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from django.contrib import admin
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import BooleanRadioFilter, ChoicesDropdownFilter, RelatedDropdownFilter
from unfold.decorators import action, display

from accounts.admin.display import EMPTY, label
from accounts.admin.imports import ServiceTransferAdmin
from accounts.models import User
from quotas import billing, stripe_sync, subscriptions
from quotas.admin.forms import PlanDialog, ReasonDialog, TrialDialog
from quotas.admin.stripe import stripe_link
from quotas.admin.transfers import SubscriptionResource
from quotas.models import StripeCustomer, Subscription

STATUS_COLOURS: dict[str, str] = {
    Subscription.Status.INCOMPLETE: "warning",
    Subscription.Status.TRIALING: "info",
    Subscription.Status.ACTIVE: "success",
    Subscription.Status.PAST_DUE: "warning",
    Subscription.Status.UNPAID: "danger",
    Subscription.Status.PAUSED: "warning",
    Subscription.Status.CANCELED: "danger",
    Subscription.Status.INCOMPLETE_EXPIRED: "danger",
}
CHANGE_PLAN = {
    "title": "Change plan",
    "description": "Limits move to the new plan's. Usage, grants and limits agreed with the user stay. What Stripe "
    "sells is changed at Stripe: at once with proration, or when the period ends.",
    "form_class": PlanDialog,
    "form_submit_text": "Change plan",
}
START_TRIAL = {
    "title": "Start a trial",
    "description": "The plan is theirs at once, for nothing. When the trial is over, they are on the default plan.",
    "form_class": TrialDialog,
    "form_submit_text": "Start the trial",
}
CANCEL = {
    "title": "Cancel the subscription?",
    "description": "It ends with its period; then the user is on the default plan. Until then it can be resumed.",
    "form_class": ReasonDialog,
    "form_submit_text": "Cancel the subscription",
}
RESUME = {
    "title": "Resume the subscription?",
    "description": "What is planned for the end of the period, an end or another plan, is called off.",
    "form_class": ReasonDialog,
    "form_submit_text": "Resume the subscription",
}
END_NOW = {
    "title": "End the subscription now?",
    "description": "The user is on the default plan at once. Stripe pays nothing back by itself: refund it there.",
    "form_class": ReasonDialog,
    "form_submit_text": "End it now",
}


# A plan that nobody sells, and that everybody falls back on, cannot be ended.
ENDLESS = Q(plan__is_default=True, status=Subscription.Status.ACTIVE, stripe_subscription_id=None)
AWAITS = Q(cancel_at_period_end=True) | Q(next_plan__isnull=False)


def state_labels(subscription: Subscription) -> SafeString:
    """The status, and whether the plan's limits count."""
    shown = label(subscription.get_status_display(), STATUS_COLOURS[subscription.status])
    return format_html("{} {}", shown, label("suspended", "danger")) if subscription.is_suspended else shown


def planned(subscription: Subscription) -> str:
    """What comes at the end of the period; empty if nothing does."""
    if not subscription.awaits_something:
        return ""
    what = f"then {subscription.next_plan}" if subscription.next_plan else "ends"
    return f"{what}, {date_format(subscription.current_period_end)}" if subscription.current_period_end else what


def change_of_plan(user: User, form: PlanDialog) -> tuple[Callable[[Subscription], str], dict[str, Any]]:
    """What to say when it is done, and the arguments of `billing.change_plan`."""
    change = {name: form.cleaned_data[name] for name in ("plan", "at_once", "reason")}
    return partial(_standing, user), {"user_id": user.pk, **change}


def _standing(user: User, subscription: Subscription) -> str:
    if not subscription.awaits_something:
        return f"{user} is on {subscription.plan} now."
    what = "trial" if subscription.status == Subscription.Status.TRIALING else "period"
    return f"{user} is on {subscription.next_plan or 'the default plan'} when the {what} ends."


def _ended(told_stripe: bool) -> str:
    if told_stripe:
        return "The subscription has ended."
    return "The subscription has ended here. Stripe does not know it: if another account sells it, end it there."


@admin.register(Subscription)
class SubscriptionAdmin(ServiceTransferAdmin):
    resource_classes = (SubscriptionResource,)
    purpose = "Which plan each user is on. One without an id of Stripe's costs nothing, and is kept here alone."
    list_display = ("user", "plan", "shown_status", "sold", "awaits", "current_period_start", "current_period_end")
    list_select_related = ("user", "plan", "next_plan")
    list_filter = (
        ("plan", RelatedDropdownFilter),
        ("status", ChoicesDropdownFilter),
        ("is_suspended", BooleanRadioFilter),
        ("cancel_at_period_end", BooleanRadioFilter),
    )
    list_filter_submit = True
    search_fields = ("user__email", "stripe_subscription_id", "stripe_customer_id")
    search_help_text = "User's e-mail, Stripe's or our id"
    ordering = ("-id",)
    actions_detail = ("change_plan", "start_trial", "cancel", "resume", "end_now")
    fieldsets = (
        (None, {"fields": (("user", "plan"), ("shown_status", "is_suspended"), ("grace_until", "trial_end"))}),
        (
            "Period",
            {
                "fields": (
                    *(("current_period_start", "current_period_end"), ("cancel_at_period_end", "next_plan")),
                    ("anchored_at", "canceled_at"),
                )
            },
        ),
        ("At Stripe", {"fields": (("stripe_customer", "stripe_subscription"), ("synced_at", "uncounted"))}),
        ("Record", {"fields": (("created_at", "updated_at"), "row_id"), "classes": ("collapse",)}),
    )

    @display(description="status", ordering="status")
    def shown_status(self, subscription: Subscription) -> SafeString:
        return state_labels(subscription)

    @display(description="sold by", ordering="stripe_subscription_id")
    def sold(self, subscription: Subscription) -> SafeString | str:
        if subscription.sold_by is None:
            return EMPTY
        if getattr(subscription, "is_paid_twice", False):
            return format_html("{} {}", label("Stripe", "info"), label("paid twice", "danger"))
        return label("Stripe", "info")

    @display(description="planned")
    def awaits(self, subscription: Subscription) -> str:
        return planned(subscription) or EMPTY

    @display(description="also sold, without counting")
    def uncounted(self, subscription: Subscription) -> SafeString | str:
        """Of all customers as whom the user pays: one of each two has to be ended at Stripe."""
        customers = StripeCustomer.objects.filter(stripe_id__in=stripe_sync.customers_of(subscription.user_id))
        found = [stripe_id for ids in customers.values_list("uncounted", flat=True) for stripe_id in ids]
        return format_html_join(" ", "{}", ((stripe_link("subscriptions", one),) for one in found)) or EMPTY

    def get_queryset(self, request: HttpRequest) -> QuerySet[Subscription]:
        customers = StripeCustomer.objects.filter(stripe_id=OuterRef("stripe_customer_id")).exclude(uncounted=[])
        rows: QuerySet[Subscription] = super().get_queryset(request)
        return rows.annotate(is_paid_twice=Exists(customers))

    @display(description="customer")
    def stripe_customer(self, subscription: Subscription) -> SafeString | str:
        return stripe_link("customers", subscription.stripe_customer_id)

    @display(description="subscription")
    def stripe_subscription(self, subscription: Subscription) -> SafeString | str:
        return stripe_link("subscriptions", subscription.stripe_subscription_id)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Subscription | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Subscription | None = None) -> bool:
        return False

    def has_manage_permission(self, request: HttpRequest, obj: str | None = None) -> bool:
        """Named by the actions. `obj` is an id: what has ended is left as it was."""
        return self._may(request, obj, Q())

    def has_start_trial_permission(self, request: HttpRequest, obj: str | None = None) -> bool:
        return self._may(request, obj, Q(stripe_subscription_id=None))

    def has_cancel_permission(self, request: HttpRequest, obj: str | None = None) -> bool:
        return self._may(request, obj, ~ENDLESS & Q(cancel_at_period_end=False))

    def has_resume_permission(self, request: HttpRequest, obj: str | None = None) -> bool:
        return self._may(request, obj, AWAITS)

    def has_end_now_permission(self, request: HttpRequest, obj: str | None = None) -> bool:
        return self._may(request, obj, ~ENDLESS)

    def _may(self, request: HttpRequest, obj: str | None, state: Q) -> bool:
        """Whether an action is offered: only where the subscription is in a state in which it does something."""
        allowed = bool(request.user.has_perm("quotas.change_subscription"))
        return allowed and (obj is None or Subscription.objects.live().filter(state, pk=obj).exists())

    @action(description="Change plan", icon="swap_horiz", permissions=["manage"], dialog=CHANGE_PLAN)
    def change_plan(self, request: HttpRequest, form: PlanDialog, object_id: str) -> HttpResponse:
        done, change = change_of_plan(self.find(request, object_id).user, form)
        return self.carry_out(request, done, billing.change_plan, **change)

    @action(description="Start trial", icon="hourglass_top", permissions=["start_trial"], dialog=START_TRIAL)
    def start_trial(self, request: HttpRequest, form: TrialDialog, object_id: str) -> HttpResponse:
        user, trial = self.find(request, object_id).user, form.cleaned_data
        done = f"{user} tries {trial['plan']} for {trial['days']} days."
        terms = {name: trial[name] for name in ("plan", "days", "reason")}
        return self.carry_out(request, done, subscriptions.start_trial, user_id=user.pk, **terms)

    @action(description="Cancel", icon="event_busy", permissions=["cancel"], dialog=CANCEL)
    def cancel(self, request: HttpRequest, form: ReasonDialog, object_id: str) -> HttpResponse:
        return self._carry_out(request, form, object_id, "The subscription ends with its period.", billing.cancel)

    @action(description="Resume", icon="event_available", permissions=["resume"], dialog=RESUME)
    def resume(self, request: HttpRequest, form: ReasonDialog, object_id: str) -> HttpResponse:
        return self._carry_out(request, form, object_id, "The subscription goes on.", billing.resume)

    @action(description="End now", icon="block", permissions=["end_now"], dialog=END_NOW)
    def end_now(self, request: HttpRequest, form: ReasonDialog, object_id: str) -> HttpResponse:
        return self._carry_out(request, form, object_id, _ended, billing.end_now)

    def _carry_out(
        self, request: HttpRequest, form: ReasonDialog, object_id: str, done: str | Callable[[Any], str], service: Any
    ) -> HttpResponse:
        user_id, reason = self.find(request, object_id).user_id, form.cleaned_data["reason"]
        return self.carry_out(request, done, service, user_id=user_id, reason=reason)
