"""Feature flags: who gets what, and how many have got it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.db import models
from django.db.models import Count, OuterRef, QuerySet, Subquery, Sum
from django.forms import BaseModelFormSet, ModelForm
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from unfold.admin import TabularInline
from unfold.contrib.filters.admin import BooleanRadioFilter
from unfold.decorators import action, display

from accounts.admin.base import AuditedAdmin
from accounts.admin.display import EMPTY, label
from quotas.admin.display import share_bar
from quotas.admin.flag_forms import FlagForm, FlagRuleForm, FlagVariantForm, WhoDialog
from quotas.flag_store import drop_flags
from quotas.flag_values import typed_value
from quotas.flags import Assignment, Reason, explain
from quotas.models import FeatureFlag, FlagExposure, FlagRule, FlagVariant

EXPOSURE_DAYS = 30
# A form has at most 1,000 fields.
MOST_ROWS = 100
REASONS = {
    Reason.UNKNOWN: "the flag is off, so programs do what they did before it",
    Reason.USER: "a rule names this user",
    Reason.PLAN: "a rule names the user's plan",
    Reason.CHANNEL: "a rule names the channel",
    Reason.PERCENTAGE: "within the percentage",
    Reason.VARIANT: "within the percentage, and drawn for this variant",
    Reason.DEFAULT: "nothing else applies",
}


class FlagRuleInline(TabularInline):
    model = FlagRule
    form = FlagRuleForm
    extra = 0
    max_num = MOST_ROWS
    hide_title = True
    fields = ("user", "plan", "channel", "value")
    autocomplete_fields = ("user", "plan")
    verbose_name = "rule"
    verbose_name_plural = (
        "Rules: one user, plan or channel each; a user's comes before a plan's, a plan's before a channel's"
    )


class FlagVariantInline(TabularInline):
    model = FlagVariant
    form = FlagVariantForm
    extra = 0
    max_num = MOST_ROWS
    hide_title = True
    fields = ("name", "weight", "value")
    verbose_name = "variant"
    verbose_name_plural = "Variants: how those within the percentage are split, by weight"


@admin.register(FeatureFlag)
class FeatureFlagAdmin(AuditedAdmin):
    form = FlagForm
    list_display = ("title", "state", "shown_value", "shown_percentage", "shown_variants", "rules", "exposures")
    list_filter = (("is_active", BooleanRadioFilter),)
    search_fields = ("key", "description")
    ordering = ("key",)
    inlines = (FlagRuleInline, FlagVariantInline)
    actions_detail = ("who_gets_what",)
    readonly_fields = ("shown_exposures", "row_id", "created_at", "updated_at")
    add_fieldsets = (
        (None, {"fields": ("key", "description", "is_active", "value")}),
        ("Percentage", {"fields": (("percentage", "percentage_value"),)}),
    )
    fieldsets = (
        (None, {"fields": ("key", "description", "is_active", "value")}),
        ("Percentage", {"fields": (("percentage", "percentage_value"),)}),
        (f"Exposures, last {EXPOSURE_DAYS} days", {"fields": ("shown_exposures",)}),
        ("Record", {"fields": (("created_at", "updated_at"), "row_id"), "classes": ("collapse",)}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[FeatureFlag]:
        flags: QuerySet[FeatureFlag] = super().get_queryset(request)
        shown = _recent().filter(flag=OuterRef("pk")).order_by().values("flag").annotate(sum=Sum("users")).values("sum")
        return flags.annotate(ruled=Count("rules"), shown=Subquery(shown)).prefetch_related("variants")

    def get_readonly_fields(self, request: HttpRequest, obj: FeatureFlag | None = None) -> Any:
        """Who gets what is computed from the key, so it stays."""
        fields = super().get_readonly_fields(request, obj)
        return ("key", *fields) if obj else fields

    def save_related(
        self, request: HttpRequest, form: ModelForm[Any], formsets: list[BaseModelFormSet[Any, Any]], change: bool
    ) -> None:
        super().save_related(request, form, formsets, change)
        drop_flags()

    def delete_model(self, request: HttpRequest, obj: models.Model) -> None:
        super().delete_model(request, obj)
        drop_flags()

    @display(description="flag", header=True, ordering="key")
    def title(self, flag: FeatureFlag) -> list[str]:
        return [flag.key, flag.description[:80]]

    @display(description="state", ordering="is_active")
    def state(self, flag: FeatureFlag) -> SafeString:
        return label("on", "success") if flag.is_active else label("off", "danger")

    @display(description="value")
    def shown_value(self, flag: FeatureFlag) -> str:
        return typed_value(flag.value)[:40]

    @display(description="percentage", ordering="percentage")
    def shown_percentage(self, flag: FeatureFlag) -> str:
        return f"{flag.percentage.normalize():f} %" if flag.percentage else EMPTY

    @display(description="variants")
    def shown_variants(self, flag: FeatureFlag) -> str:
        return " · ".join(f"{variant.name} {variant.weight}" for variant in flag.variants.all()) or EMPTY

    @display(description="rules", ordering="ruled")
    def rules(self, flag: FeatureFlag) -> int:
        return getattr(flag, "ruled", 0)

    @display(description=f"exposures, {EXPOSURE_DAYS} days", ordering="shown")
    def exposures(self, flag: FeatureFlag) -> str:
        return f"{getattr(flag, 'shown', None) or 0:,}"

    @display(description="users a day, added up")
    def shown_exposures(self, flag: FeatureFlag) -> SafeString | str:
        rows = _recent().filter(flag=flag).order_by("variant").values_list("variant").annotate(sum=Sum("users"))
        counted = list(rows)
        whole = sum(users for _variant, users in counted)
        drawn = ((variant, share_bar(users, whole)) for variant, users in counted)
        return format_html_join("", '<div class="mb-4"><p class="mb-2">{}</p>{}</div>', drawn) if counted else EMPTY

    def has_who_gets_what_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(self.has_change_permission(request))

    @action(
        description="Who gets what",
        icon="person_search",
        permissions=["who_gets_what"],
        dialog={
            "title": "Who gets what",
            "description": "What this flag gives to a user, and why. It is not counted as an exposure.",
            "form_class": WhoDialog,
            "form_submit_text": "Show",
        },
    )
    def who_gets_what(self, request: HttpRequest, form: WhoDialog, object_id: str) -> HttpResponse:
        flag = self.find(request, object_id)
        user, channel = form.cleaned_data["email"], form.cleaned_data["channel"]
        found = explain(user.pk, flag.key, channel=channel or None)
        self.message_user(request, f"{user} gets {_described(found)}.")
        return self.go_back(request)


def _recent() -> QuerySet[FlagExposure]:
    return FlagExposure.objects.filter(day__gt=timezone.now().date() - timedelta(days=EXPOSURE_DAYS))


def _described(found: Assignment) -> str:
    value = "nothing" if found.value is None else typed_value(found.value)
    variant = f" (variant {found.variant})" if found.variant else ""
    return f"{value}{variant}: {REASONS[found.reason]}"
