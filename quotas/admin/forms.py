"""The small forms of the operators' actions on quotas and subscriptions. These forms check; services write."""

from __future__ import annotations

from typing import Any

from django import forms
from unfold.forms import BaseDialogForm
from unfold.widgets import (
    UnfoldAdminBigIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
)

from quotas.admin.display import bar
from quotas.models import Plan, Quota

# Far above any use, far below where sums of them would leave 64 bits.
MOST = 10**15


def amount_field(label: str, *, least: int, help_text: str = "") -> forms.IntegerField:
    return forms.IntegerField(
        label=label,
        min_value=least,
        max_value=MOST,
        widget=UnfoldAdminBigIntegerFieldWidget(attrs={"autofocus": True}),
        help_text=help_text,
    )


class ReasonDialog(BaseDialogForm):
    reason = forms.CharField(
        max_length=500,
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "Ticket, agreement, mistake …"}),
        help_text="Kept in the audit event.",
    )


class QuotaDialog(ReasonDialog):
    """Shows the quota as it stands above the fields."""

    form_before_template = "admin/quotas/quota/dialog.html"

    def get_before_template_context(self, request: Any, object_id: Any = None) -> dict[str, Any]:
        quota = Quota.objects.select_related("user").filter(pk=object_id).first()
        if quota is None:
            return {}
        drawn = bar(used=quota.current_usage, held=quota.held, limit=quota.limit, unit=quota.unit)
        return {"quota": quota, "bar": drawn}


class LimitDialog(QuotaDialog):
    limit = amount_field(
        "New limit",
        least=0,
        help_text="Counts from now on, and at the start of each period. It cannot fall under what is used and held "
        "before the running period ends. A cost is in micro-USD.",
    )
    field_order = ("limit", "reason")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        quota = Quota.objects.filter(pk=self.object_id).first()
        self.initial["limit"] = quota.base_limit if quota else None


class GrantDialog(QuotaDialog):
    amount = amount_field(
        "Extra amount", least=1, help_text="On top of the limit, until the running period ends. A cost is in micro-USD."
    )
    field_order = ("amount", "reason")


class PlanDialog(BaseDialogForm):
    plan = forms.ModelChoiceField(
        queryset=Plan.objects.filter(is_active=True), empty_label=None, widget=UnfoldAdminSelectWidget
    )
