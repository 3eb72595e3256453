"""The form of a provider, whose API key goes in and never comes out."""

from __future__ import annotations

from typing import Any, ClassVar
from urllib.parse import urlsplit

from django import forms
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldBooleanSwitchWidget

from inference.models import Provider


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
