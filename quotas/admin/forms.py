"""The small forms of the operators' actions on quotas and subscriptions. These forms check; services write."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone
from unfold.forms import BaseDialogForm
from unfold.widgets import (
    UnfoldAdminBigIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from quotas import services
from quotas.admin.display import bar, share_bar
from quotas.meters import Meter, Period, Resource, Unit
from quotas.models import Grant, Plan, Quota
from quotas.services.budgets import MOST_BUDGETS, MOST_LIMIT, Budget
from quotas.subscriptions import MOST_TRIAL_DAYS
from quotas.windows import SIZES, UNITS, RouteClass, validate_rate_limits

RATE_LIMITS_EXAMPLE = "default requests second 5\ndefault requests minute 60\ninference tokens minute 100000"
RATE_LIMITS_HELP = (
    f"One a line: section, unit, window and number, such as inference requests minute 60. Sections are the classes of "
    f"routes ({', '.join(RouteClass.values)}), each counted by itself for each user; default, for the classes without "
    f"a line of their own (one line for a class sets all of default's aside for it); key, for each API key; channel, "
    f"for each channel that a key acts on. Units: {', '.join(UNITS)}. Windows: {', '.join(SIZES)}. Without any line, "
    f"nothing is limited."
)
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


class MomentInput(UnfoldAdminTextInputWidget):
    """Date and time in one field, with the browser's own calendar: a dialog's fields come too late for the theme's."""

    input_type = "datetime-local"


class ExpiryField(forms.DateTimeField):
    """A moment to come, or none."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(required=False, **kwargs)

    def clean(self, value: Any) -> datetime | None:
        expires_at: datetime | None = super().clean(value)
        if expires_at is not None and expires_at <= timezone.now():
            raise ValidationError("This lies in the past.")
        return expires_at


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
        drawn = bar(
            used=quota.current_usage,
            held=quota.held,
            limit=quota.limit,
            unit=quota.unit,
            warn_at=quota.soft_threshold,
        )
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
        "Extra amount", least=1, help_text="On top of the limit, once: until it is spent. A cost is in micro-USD."
    )
    expires_at = ExpiryField(
        label="Expires", widget=MomentInput, help_text="In UTC. Empty: never. What expires first is spent first."
    )
    field_order = ("amount", "expires_at", "reason")


class RevokeDialog(ReasonDialog):
    """Shows how much of the grant is spent above the field."""

    form_before_template = "admin/quotas/quota/dialog.html"

    def get_before_template_context(self, request: Any, object_id: Any = None) -> dict[str, Any]:
        grant = Grant.objects.select_related("quota__user").filter(pk=object_id).first()
        if grant is None:
            return {}
        ((_quota, grants),) = services.standing([grant.quota], timezone.now())
        spent = next((one.spent for one in grants if one.pk == grant.pk), grant.spent)
        return {"quota": grant.quota, "bar": share_bar(spent, grant.amount, grant.quota.unit)}


class NewQuotaDialog(ReasonDialog):
    resource = forms.ChoiceField(choices=Resource.choices, widget=UnfoldAdminSelectWidget)
    unit = forms.ChoiceField(choices=Unit.choices, widget=UnfoldAdminSelectWidget)
    period = forms.ChoiceField(choices=Period.choices, initial=Period.MONTH, widget=UnfoldAdminSelectWidget)
    limit = amount_field("Limit", least=0, help_text="What each period starts with. A cost is in micro-USD.")
    field_order = ("resource", "unit", "period", "limit", "reason")


def plan_field() -> forms.ModelChoiceField[Plan]:
    return forms.ModelChoiceField(
        queryset=Plan.objects.filter(is_active=True), empty_label=None, widget=UnfoldAdminSelectWidget
    )


class PlanDialog(ReasonDialog):
    plan = plan_field()
    at_once = forms.TypedChoiceField(
        label="When",
        choices=[("yes", "At once"), ("no", "When the period ends")],
        coerce=lambda chosen: chosen == "yes",
        widget=UnfoldAdminSelectWidget,
    )
    field_order = ("plan", "at_once", "reason")


class TrialDialog(ReasonDialog):
    plan = plan_field()
    days = forms.IntegerField(
        min_value=1, max_value=MOST_TRIAL_DAYS, initial=14, widget=UnfoldAdminBigIntegerFieldWidget
    )
    field_order = ("plan", "days", "reason")


class RateLimitsField(forms.CharField):
    """A plan's `rate_limits` as text, one limit a line: `inference requests minute 60`."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("widget", UnfoldAdminTextareaWidget(attrs={"rows": 8, "placeholder": RATE_LIMITS_EXAMPLE}))
        super().__init__(required=False, max_length=4000, help_text=RATE_LIMITS_HELP, **options)

    def prepare_value(self, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return "\n".join(
            f"{section} {unit} {window} {limit}"
            for section, units in value.items()
            for unit, windows in units.items()
            for window, limit in windows.items()
        )

    def clean(self, value: Any) -> dict[str, Any]:
        limits: dict[str, Any] = {}
        for words in [line.split() for line in super().clean(value).splitlines() if line.strip()]:
            if len(words) != 4 or not words[3].isdecimal():
                raise ValidationError(f"“{' '.join(words)}” is not a section, a unit, a window and a number.")
            section, unit, window, limit = words
            if window in limits.setdefault(section, {}).setdefault(unit, {}):
                raise ValidationError(f"Two lines are about {section} {unit} {window}.")
            limits[section][unit][window] = int(limit)
        validate_rate_limits(limits)
        return limits

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return bool(self.clean(data) != (initial or {}))
        except ValidationError:
            return True


class PlanForm(forms.ModelForm):  # type: ignore[type-arg]
    rate_limits = RateLimitsField()


class BudgetsDialog(ReasonDialog):
    """All budgets of a key as text, one a line; cleaned, they are a list of `Budget`."""

    budgets = forms.CharField(
        required=False,
        max_length=2000,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 6, "placeholder": "llm.tokens day 50000"}),
        help_text="One a line: meter, period and limit, such as llm.tokens day 50000. A cost is in micro-USD. A period "
        f"is one of {', '.join(Period.values)}. Without any line, the key has no budget.",
    )
    field_order = ("budgets", "reason")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        rows = Quota.objects.filter(api_key_id=self.object_id)
        self.initial["budgets"] = "\n".join(f"{row.meter} {row.period} {row.base_limit}" for row in rows)

    def clean_budgets(self) -> list[Budget]:
        lines = [line.split() for line in self.cleaned_data["budgets"].splitlines() if line.strip()]
        if len(lines) > MOST_BUDGETS:
            raise ValidationError(f"A key has at most {MOST_BUDGETS} budgets.")
        budgets = [budget_of(words) for words in lines]
        if len({(budget.meter, budget.period) for budget in budgets}) < len(budgets):
            raise ValidationError("Two lines are about the same meter and period.")
        return budgets


def budget_of(words: list[str]) -> Budget:
    """The budget that a line says, `llm.tokens day 50000`."""
    line = " ".join(words)
    if len(words) != 3:
        raise ValidationError(f"“{line}” is not a meter, a period and a limit.")
    resource, _, unit = words[0].partition(".")
    if resource not in Resource.values or unit not in Unit.values:
        raise ValidationError(f"“{line}”: there is no meter {words[0]}.")
    if words[1] not in Period.values:
        raise ValidationError(f"“{line}”: there is no period {words[1]}.")
    if not words[2].isdecimal() or not 0 < int(words[2]) <= MOST_LIMIT:
        raise ValidationError(f"“{line}”: a limit is a whole number from 1 to {MOST_LIMIT}.")
    return Budget(Meter(resource, unit), words[1], int(words[2]))
