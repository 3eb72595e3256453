"""How conversations are led on each channel. Credentials go in and never come out."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.db import models
from django.forms import BaseModelFormSet, ModelForm
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import BooleanRadioFilter
from unfold.decorators import action, display
from unfold.forms import BaseDialogForm
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldAdminSelectWidget, UnfoldBooleanSwitchWidget

from accounts.admin.display import EMPTY, label
from accounts.exceptions import DomainError
from conversations import channels
from conversations.admin.presence import PresenceAdmin
from conversations.models import ChannelConfig
from prompts.rendering import render

SETTINGS = (
    *(
        "name",
        "default_model",
        "system_prompt",
        "prompt_template",
        "prompt_label",
        "temperature",
        "top_p",
        "max_tokens",
    ),
    *("context_messages", "context_tokens", "rate_limits", "welcome_text", "quota_text", "rate_limit_text"),
    *("model_down_text", "off_text"),
)


class ChannelForm(forms.ModelForm):  # type: ignore[type-arg]
    """`credentials` is not among the model's fields here, so what is stored gets into neither `initial` nor HTML."""

    new_credentials = forms.CharField(
        label="New credentials",
        required=False,
        max_length=8000,
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"}),
        help_text="Such as the token of a bot. Kept encrypted and never shown again. Empty: what is stored stays.",
    )
    remove_credentials = forms.BooleanField(
        label="Remove the stored credentials", required=False, widget=UnfoldBooleanSwitchWidget
    )

    class Meta:
        model = ChannelConfig
        fields: ClassVar = list(SETTINGS)

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if cleaned.get("new_credentials") and cleaned.get("remove_credentials"):
            self.add_error("remove_credentials", "Either give new credentials or remove the stored ones.")
        self._check_template(cleaned)
        return cleaned

    def _check_template(self, cleaned: dict[str, Any]) -> None:
        """It is rendered without values, so what asks for one would fail for everybody who writes."""
        template = cleaned.get("prompt_template")
        if template is None or "prompt_label" not in cleaned:
            return
        try:
            render(owner_id=template.user_id, name=template.name, label=cleaned["prompt_label"], variables={})
        except DomainError as refusal:
            self.add_error("prompt_template", str(refusal))

    def save(self, commit: bool = True) -> ChannelConfig:
        if self.cleaned_data.get("new_credentials"):
            self.instance.credentials = self.cleaned_data["new_credentials"]
        elif self.cleaned_data.get("remove_credentials"):
            self.instance.credentials = ""
        config: ChannelConfig = super().save(commit)
        return config


class SwitchDialog(BaseDialogForm):
    state = forms.ChoiceField(choices=[("off", "Off"), ("on", "On")], widget=UnfoldAdminSelectWidget)


@admin.register(ChannelConfig)
class ChannelConfigAdmin(PresenceAdmin):
    form = ChannelForm
    purpose = (
        "How conversations are led on each channel: which model answers, what it is told first, how much of the past "
        "it gets, and what bots say when something is wrong. Changes count for the next turn, in every process."
    )
    list_display = ("name", "state", "default_model", "shown_prompt", "context_messages", "has_credentials")
    list_select_related = ("prompt_template",)
    list_filter = (("is_active", BooleanRadioFilter),)
    search_fields = ("name", "default_model", "system_prompt")
    ordering = ("name",)
    autocomplete_fields = ("prompt_template",)
    actions_detail = ("switch",)
    readonly_fields = ("state", "has_credentials", "row_id", "created_at", "updated_at")
    add_fieldsets = ((None, {"fields": ("name", "default_model")}),)
    fieldsets = (
        (None, {"fields": (("name", "state"), "default_model")}),
        ("What the model is told first", {"fields": ("system_prompt", ("prompt_template", "prompt_label"))}),
        ("How it answers", {"fields": (("temperature", "top_p", "max_tokens"),)}),
        ("How much of the past it gets", {"fields": (("context_messages", "context_tokens"),)}),
        ("Limits", {"fields": ("rate_limits",)}),
        ("What bots say", {"fields": ("welcome_text", "quota_text", "rate_limit_text", "model_down_text", "off_text")}),
        ("Credentials", {"fields": (("has_credentials", "remove_credentials"), "new_credentials")}),
        ("Record", {"fields": (("created_at", "updated_at"), "row_id"), "classes": ("collapse",)}),
    )

    @display(description="state", ordering="is_active")
    def state(self, config: ChannelConfig) -> SafeString:
        return label("on", "success") if config.is_active else label("off", "danger")

    @display(description="first words")
    def shown_prompt(self, config: ChannelConfig) -> str:
        if config.prompt_template is not None:
            return f"{config.prompt_template.name}@{config.prompt_label}"
        return config.system_prompt[:60] or EMPTY

    @display(description="credentials stored", boolean=True)
    def has_credentials(self, config: ChannelConfig) -> bool:
        return bool(config.credentials)

    def save_related(
        self, request: HttpRequest, form: ModelForm[Any], formsets: list[BaseModelFormSet[Any, Any]], change: bool
    ) -> None:
        super().save_related(request, form, formsets, change)
        channels.drop_channels()

    def delete_model(self, request: HttpRequest, obj: models.Model) -> None:
        super().delete_model(request, obj)
        channels.drop_channels()

    def has_switch_permission(self, request: HttpRequest, obj: str | None = None) -> bool:
        """Named by the action."""
        return bool(self.has_change_permission(request))

    @action(
        description="Switch on or off",
        icon="power_settings_new",
        permissions=["switch"],
        dialog={
            "title": "Is this channel on?",
            "description": "While it is off, nobody can say anything new on it, and is told so. What was said stays.",
            "form_class": SwitchDialog,
            "form_submit_text": "Save",
        },
    )
    def switch(self, request: HttpRequest, form: SwitchDialog, object_id: str) -> HttpResponse:
        config, state = self.find(request, object_id), form.cleaned_data["state"]
        return self.carry_out(request, f"{config} is {state}.", channels.switch, config=config, is_active=state == "on")
