"""Quotas, grants, plan limits and subscriptions as files: what goes out, and what comes in through the services."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar
from uuid import UUID

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet
from django.db.models.functions import Coalesce
from import_export.fields import Field
from tablib import Dataset

from accounts.admin.base import as_uuid
from accounts.admin.imports import CHANGED, NEW, SAME, ServiceResource
from accounts.admin.transfer import FormFieldWidget, TransferResource
from accounts.merging import hold_users
from accounts.models import User
from accounts.tasks import enqueue
from quotas import services
from quotas.admin.forms import ExpiryField, amount_field
from quotas.admin.grant_states import bring_up_to_date, state_of
from quotas.meters import Cycle, Meter, Period, Resource, Unit
from quotas.models import Grant, Plan, PlanLimit, Quota, Subscription
from quotas.tasks import apply_plan_limits

WORDS = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


class YesNoField(forms.CharField):
    def clean(self, value: Any) -> bool:
        word = super().clean(value).lower()
        if word not in WORDS:
            raise ValidationError("This is yes or no.")
        return WORDS[word]

    def prepare_value(self, value: Any) -> str:
        return "yes" if value else "no"


class UserField(forms.CharField):
    """A user by e-mail address or id."""

    def clean(self, value: Any) -> UUID:
        text = super().clean(value)
        found = user_ids([text])
        if not found:
            raise ValidationError("There is no such user.")
        return found[0]


def user_ids(texts: list[str]) -> list[UUID]:
    """The users that are named by e-mail address or id. Who was merged is the user who stays."""
    ids = [pk for text in texts if (pk := as_uuid(text))]
    emails = [text.strip().lower() for text in texts if text.strip() and "\0" not in text]
    found = User.objects.filter(Q(pk__in=ids) | Q(email__in=emails))
    return list(found.values_list(Coalesce("merged_into_id", "id"), flat=True))


def moment_field(attribute: str) -> Field:
    return Field(attribute, widget=FormFieldWidget(forms.DateTimeField()))


def yes_no_field(attribute: str) -> Field:
    return Field(attribute, widget=FormFieldWidget(YesNoField()))


# What goes out ---------------------------------------------------------------------------------------------------


class QuotaResource(TransferResource):
    email = Field("user__email")
    resource = Field("resource_type")
    override = yes_no_field("is_override")
    used = Field("current_usage")
    reset_date = moment_field("reset_date")

    class Meta:
        model = Quota
        fields = (
            *("email", "resource", "unit", "period", "base_limit", "override", "granted", "limit", "used", "held"),
            "reset_date",
        )


class GrantResource(TransferResource):
    email = Field("quota__user__email")
    resource = Field("quota__resource_type")
    unit = Field("quota__unit")
    period = Field("quota__period")
    state = Field()
    expires_at = moment_field("expires_at")
    created_at = moment_field("created_at")

    class Meta:
        model = Grant
        fields = (
            *("email", "resource", "unit", "period", "amount", "spent", "state", "expires_at", "created_at"),
            "reason",
        )

    def iter_queryset(self, queryset: QuerySet[Grant]) -> Iterator[Grant]:
        grants = list(queryset)
        bring_up_to_date(grants)
        return iter(grants)

    def dehydrate_state(self, grant: Grant) -> str:
        return state_of(grant)


class SubscriptionResource(TransferResource):
    email = Field("user__email")
    plan = Field("plan__slug")
    anchored_at = moment_field("anchored_at")
    current_period_start = moment_field("current_period_start")
    current_period_end = moment_field("current_period_end")
    canceled_at = moment_field("canceled_at")

    class Meta:
        model = Subscription
        fields = (
            *("email", "plan", "status", "anchored_at", "current_period_start", "current_period_end", "canceled_at"),
            "stripe_subscription_id",
        )


class PlanLimitResource(TransferResource):
    plan = Field("plan__slug")
    resource = Field("resource_type")
    overage_allowed = yes_no_field("overage_allowed")

    class Meta:
        model = PlanLimit
        fields = ("plan", "resource", "unit", "period", "cycle", "limit", "soft_threshold", "overage_allowed")


# What comes in ---------------------------------------------------------------------------------------------------


class QuotaRow(forms.Form):
    email = UserField(max_length=300)
    resource = forms.ChoiceField(choices=Resource.choices)
    unit = forms.ChoiceField(choices=Unit.choices)
    period = forms.ChoiceField(choices=Period.choices)


class GrantRow(QuotaRow):
    amount = amount_field("amount", least=1)
    expires_at = ExpiryField()
    reason = forms.CharField(max_length=500)


class LimitRow(QuotaRow):
    limit = amount_field("limit", least=0)
    reason = forms.CharField(max_length=500)


class PlanLimitRow(forms.Form):
    plan = forms.ModelChoiceField(
        queryset=Plan.objects.all(),
        to_field_name="slug",
        error_messages={"invalid_choice": "There is no such plan."},
    )
    resource = forms.ChoiceField(choices=Resource.choices)
    unit = forms.ChoiceField(choices=Unit.choices)
    period = forms.ChoiceField(choices=Period.choices)
    cycle = forms.ChoiceField(choices=Cycle.choices)
    limit = amount_field("limit", least=0)
    soft_threshold = forms.IntegerField(min_value=1, max_value=100)
    overage_allowed = YesNoField()


class QuotaRows(ServiceResource):
    def lock(self, dataset: Dataset) -> None:
        users = user_ids(list(dataset["email"]))
        hold_users(users)
        mine = Quota.objects.filter(user__in=users, api_key=None)
        list(mine.order_by("id").select_for_update(no_key=True).values_list("pk"))

    def find(self, cells: dict[str, Any]) -> Quota | None:
        """The quota that a row means; those of the plan are made for who has none yet."""
        kind = {"resource_type": cells["resource"], "unit": cells["unit"], "period": cells["period"]}
        same = Quota.objects.of_user(cells["email"]).filter(**kind)
        found = same.first()
        if found is not None:
            return found
        services.provision(user_id=cells["email"])
        return same.first()


class GrantRows(QuotaRows):
    row_form = GrantRow

    class Meta:
        model = Grant

    def carry_out(self, cells: dict[str, Any]) -> str:
        quota = self.find(cells)
        if quota is None:
            raise ValidationError("This user has no such quota.")
        given = {name: cells[name] for name in ("amount", "expires_at", "reason")}
        services.grant(quota=quota, by=self.by, **given)
        return NEW


class LimitRows(QuotaRows):
    row_form = LimitRow

    class Meta:
        model = Quota

    def carry_out(self, cells: dict[str, Any]) -> str:
        meter, limit = Meter(cells["resource"], cells["unit"]), cells["limit"]
        self.only_once(cells["email"], meter, cells["period"])
        quota, said = self.find(cells), {"limit": limit, "by": self.by, "reason": cells["reason"]}
        if quota is None:
            services.add_quota(user_id=cells["email"], meter=meter, period=Period(cells["period"]), **said)
            return NEW
        if quota.is_override and quota.base_limit == limit:
            return SAME
        services.set_limit(quota=quota, **said)
        return CHANGED


class PlanLimitRows(ServiceResource):
    row_form = PlanLimitRow
    TERMS: ClassVar = ("limit", "cycle", "soft_threshold", "overage_allowed")

    class Meta:
        model = PlanLimit

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.changed: set[UUID] = set()

    def lock(self, dataset: Dataset) -> None:
        named = {slug for slug in dataset["plan"] if "\0" not in slug}
        plans = Plan.objects.filter(slug__in=named).order_by("id")
        list(plans.select_for_update(no_key=True).values_list("pk"))

    def carry_out(self, cells: dict[str, Any]) -> str:
        plan, meter, period = cells["plan"], Meter(cells["resource"], cells["unit"]), cells["period"]
        self.only_once(plan.pk, meter, period)
        same = PlanLimit.objects.filter(plan=plan, resource_type=meter.resource, unit=meter.unit, period=period)
        existed = same.exists()
        terms = services.Terms(**{name: cells[name] for name in self.TERMS})
        if not services.set_plan_limit(plan=plan, meter=meter, period=period, terms=terms, by=self.by):
            return SAME
        self.changed.add(plan.pk)
        return CHANGED if existed else NEW

    def after_import(self, dataset: Dataset, result: Any, **kwargs: Any) -> None:
        """Of a preview, nothing is handed to a worker: that waits for a commit, and there is none."""
        for plan_id in self.changed:
            enqueue(apply_plan_limits, str(plan_id))
