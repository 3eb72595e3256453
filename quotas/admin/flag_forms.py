"""What operators fill in on the page of a feature flag."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.core.exceptions import ValidationError
from unfold.forms import BaseDialogForm
from unfold.widgets import UnfoldAdminTextInputWidget

from accounts.models import User
from quotas.flag_values import LONGEST, parse_value, typed_value
from quotas.models import FeatureFlag, FlagRule, FlagVariant

TYPED = "true or false, a number, or a text. A text that looks like one of these stands in quotes."


class ValueField(forms.CharField):
    """A value as people type it: `true`, `100`, `variant_a`, and `"100"` for the text."""

    def __init__(self, *, help_text: str = "", label: str | None = None, initial: Any = None) -> None:
        super().__init__(help_text=help_text, label=label, initial=initial, widget=UnfoldAdminTextInputWidget)

    def prepare_value(self, value: Any) -> Any:
        """What is shown: what came from a browser as it came, what the database holds as it would be typed."""
        return value if value is None or isinstance(value, Typed) else typed_value(value)

    def bound_data(self, data: Any, initial: Any) -> Any:
        return data if data is None else Typed(data)

    def to_python(self, value: Any) -> Any:
        # No more than a short text is worth reading, were it all escapes.
        if value is not None and len(value) > 6 * LONGEST + 2:
            raise ValidationError(f"A text has at most {LONGEST} characters.")
        text = super().to_python(value)
        return parse_value(text) if text else text

    def has_changed(self, initial: Any, data: Any) -> bool:
        shown = "" if initial is None else self.prepare_value(initial)
        return (data or "").strip() != shown


class Typed(str):
    """Text from a browser, which is shown again as it was typed."""

    __slots__ = ()


class FlagForm(forms.ModelForm):  # type: ignore[type-arg]
    value = ValueField(help_text=f"What everybody gets whom no rule and no percentage reaches: {TYPED}", initial=False)
    percentage_value = ValueField(
        help_text="What those within the percentage get if the flag has no variants.",
        label="Value for the percentage",
        initial=True,
    )

    class Meta:
        model = FeatureFlag
        fields: ClassVar = ["key", "description", "is_active", "value", "percentage", "percentage_value"]


class FlagRuleForm(forms.ModelForm):  # type: ignore[type-arg]
    value = ValueField()

    class Meta:
        model = FlagRule
        fields: ClassVar = ["user", "plan", "channel", "value"]


class FlagVariantForm(forms.ModelForm):  # type: ignore[type-arg]
    value = ValueField()

    class Meta:
        model = FlagVariant
        fields: ClassVar = ["name", "weight", "value"]


class WhoDialog(BaseDialogForm):
    """Cleaned, `email` is the user."""

    email = forms.CharField(
        label="User's e-mail", max_length=254, widget=UnfoldAdminTextInputWidget(attrs={"autofocus": True})
    )
    channel = forms.CharField(
        required=False,
        max_length=50,
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "discord"}),
        help_text="Empty: without the rules of channels.",
    )

    def clean_email(self) -> User:
        user = User.objects.filter(email__iexact=self.cleaned_data["email"].strip()).first()
        if user is None:
            raise ValidationError("No user has this address.")
        return user
