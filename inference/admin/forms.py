"""The forms of a provider, whose API key goes in and never comes out, and of a price, which is said in dollars."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, ClassVar
from urllib.parse import urlsplit

from django import forms
from unfold.widgets import UnfoldAdminDecimalFieldWidget, UnfoldAdminPasswordWidget, UnfoldBooleanSwitchWidget

from inference.models import MOST_PRICE, Price, Provider


class ProviderForm(forms.ModelForm):  # type: ignore[type-arg]
    """`api_key` is not among the model's fields here, so the stored key gets neither into `initial` nor into HTML."""

    new_api_key = forms.CharField(
        label="New API key",
        required=False,
        max_length=2000,
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"}),
        help_text="Kept encrypted and never shown again. Empty: the stored key stays.",
    )
    remove_api_key = forms.BooleanField(
        label="Remove the stored API key", required=False, widget=UnfoldBooleanSwitchWidget
    )

    class Meta:
        model = Provider
        fields: ClassVar = ["name", "base_url", "is_active", "connect_timeout", "read_timeout"]

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if cleaned.get("new_api_key") and cleaned.get("remove_api_key"):
            self.add_error("remove_api_key", "Either give a new key or remove the stored one.")
        if self._stored_key_would_move(cleaned):
            self.add_error("new_api_key", "The stored key would be sent to another server: give a key, or remove it.")
        return cleaned

    def _stored_key_would_move(self, cleaned: dict[str, Any]) -> bool:
        """Whoever could point a stored key at a server of their own, could read it there."""
        if not self.instance.api_key or cleaned.get("new_api_key") or cleaned.get("remove_api_key"):
            return False
        former, wanted = (urlsplit(url) for url in (self.initial["base_url"], cleaned.get("base_url", "")))
        return "base_url" in cleaned and (former.scheme, former.netloc) != (wanted.scheme, wanted.netloc)

    def save(self, commit: bool = True) -> Provider:
        if self.cleaned_data.get("new_api_key"):
            self.instance.api_key = self.cleaned_data["new_api_key"]
        elif self.cleaned_data.get("remove_api_key"):
            self.instance.api_key = ""
        provider: Provider = super().save(commit)
        return provider


class UsdPerMillionField(forms.DecimalField):
    """Dollars for a million units to people, micro-USD for a million units to programs."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(min_value=0, max_value=MOST_PRICE // 1_000_000, decimal_places=6, **kwargs)

    def prepare_value(self, value: Any) -> Any:
        return f"{Decimal(value).scaleb(-6).normalize():f}" if isinstance(value, int) else value

    def clean(self, value: Any) -> Any:
        dollars = super().clean(value)
        return None if dollars is None else int(dollars.scaleb(6))

    def has_changed(self, initial: Any, data: Any) -> bool:
        return super().has_changed(None if initial is None else Decimal(initial).scaleb(-6), data)


class PriceForm(forms.ModelForm):  # type: ignore[type-arg]
    price = UsdPerMillionField(
        label="USD per million",
        widget=UnfoldAdminDecimalFieldWidget,
        help_text="For a million units: 0.15 is $0.15 for a million tokens; 100 is $100 for a million seconds, which "
        "is $0.006 for a minute; 10000 is $0.01 for a request.",
    )

    class Meta:
        model = Price
        fields: ClassVar = ["model", "unit", "price", "valid_from"]
