"""API keys: made and revoked here, never edited. The text of a key is on one page, once."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse
from django.template.defaultfilters import pluralize
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter, RadioFilter
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.forms import BaseDialogForm

from accounts import services
from accounts.admin.base import OperatorAdmin, operator
from accounts.admin.display import label
from accounts.admin.forms import ApiKeyForm
from accounts.credentials import KEY_MARK
from accounts.models import ApiKey

NEW_KEY = ("user", "name", "scopes", "expires_at")
USABLE, EXPIRED, REVOKED, OWNER_INACTIVE = "usable", "expired", "revoked", "owner inactive"
COLOURS = {USABLE: "success", EXPIRED: "warning", REVOKED: "danger", OWNER_INACTIVE: "warning"}


class StateFilter(RadioFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(state, state.capitalize()) for state in (USABLE, EXPIRED, REVOKED)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> QuerySet[ApiKey]:
        now = timezone.now()
        match self.value():
            case "usable":
                return queryset.filter(Q(expires_at=None) | Q(expires_at__gt=now), is_active=True, user__is_active=True)
            case "expired":
                return queryset.filter(expires_at__lte=now)
            case "revoked":
                return queryset.filter(Q(expires_at=None) | Q(expires_at__gt=now), is_active=False)
            case _:
                return queryset


@admin.register(ApiKey)
class ApiKeyAdmin(OperatorAdmin):
    form = ApiKeyForm
    purpose = (
        "What programs call the API with, in the name of the key's user. The text of a key is shown once, when it is "
        "made; one that got lost or leaked is revoked, and another made."
    )
    list_display = ("key", "user", "shown_state", "shown_scopes", "last_used_at", "expires_at", "created_at")
    list_select_related = ("user",)
    list_filter = (
        StateFilter,
        ("user", AutocompleteSelectFilter),
        ("created_at", admin.DateFieldListFilter),
    )
    list_filter_submit = True
    search_fields = ("name", "^prefix", "user__email")
    search_help_text = "Name, prefix (msk_…) or owner's e-mail"
    ordering = ("-id",)
    autocomplete_fields = ("user",)
    actions = ("revoke_chosen",)
    actions_detail = ("revoke",)
    fieldsets = (
        (None, {"fields": (("name", "shown_prefix"), ("user", "shown_state"), ("shown_scopes", "expires_at"))}),
        ("Record", {"fields": (("created_at", "last_used_at"), "row_id")}),
    )
    add_fieldsets = ((None, {"fields": NEW_KEY}),)
    readonly_fields = ("shown_prefix", "shown_state", "shown_scopes", "row_id", "created_at", "last_used_at")

    @display(description="key", ordering="name", header=True)
    def key(self, key: ApiKey) -> list[str]:
        return [key.name, self.shown_prefix(key)]

    @display(description="key")
    def shown_prefix(self, key: ApiKey) -> str:
        return f"{KEY_MARK}{key.prefix}_…"

    @display(description="scopes")
    def shown_scopes(self, key: ApiKey) -> str:
        return ", ".join(key.scopes)

    @display(description="state")
    def shown_state(self, key: ApiKey) -> SafeString:
        state = self.state(key)
        return label(state, COLOURS[state])

    def state(self, key: ApiKey) -> str:
        """What is over by its date is expired, whether it has been switched off since or not."""
        if key.expires_at is not None and key.expires_at <= timezone.now():
            return EXPIRED
        if not key.is_active:
            return REVOKED
        return USABLE if key.user.is_active else OWNER_INACTIVE

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[ApiKey], search_term: str
    ) -> tuple[QuerySet[ApiKey], bool]:
        """A key's visible part is found as it is shown, and even if someone pastes a whole key."""
        if search_term.startswith(KEY_MARK):
            prefix = search_term.removeprefix(KEY_MARK).partition("_")[0]
            return queryset.filter(prefix__startswith=prefix), False
        return super().get_search_results(request, queryset, search_term)

    # Permissions

    def has_change_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        return False

    def has_revoke_permission(self, request: HttpRequest, obj: str | None = None) -> bool:
        """Named by the actions. `obj` is an id: what is revoked already cannot be revoked again."""
        if not (request.user.has_perm("accounts.change_apikey") or request.user.has_perm("accounts.support_user")):
            return False
        return obj is None or ApiKey.objects.filter(pk=obj, is_active=True).exists()

    # Making a key

    def get_form(
        self, request: HttpRequest, obj: ApiKey | None = None, change: bool = False, **kwargs: Any
    ) -> type[ModelForm[ApiKey]]:
        form: Any = super().get_form(request, obj, change=change, **kwargs)
        form.operator = request.user
        return form  # type: ignore[no-any-return]

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        context = {"show_save_and_add_another": False, "show_save_and_continue": False, **(extra_context or {})}
        answer: HttpResponse = super().add_view(request, form_url, context)
        return answer

    def save_model(self, request: HttpRequest, obj: ApiKey, form: ModelForm[ApiKey], change: bool) -> None:
        key, secret = services.create_api_key(
            user_id=form.cleaned_data["user"].pk,
            name=form.cleaned_data["name"],
            scopes=form.cleaned_data["scopes"],
            expires_at=form.cleaned_data["expires_at"],
            by=operator(request),
        )
        obj.pk = key.pk
        obj.refresh_from_db()
        obj.secret = secret  # type: ignore[attr-defined]

    def response_add(self, request: HttpRequest, obj: ApiKey, post_url_continue: str | None = None) -> HttpResponse:
        """The secret is in the body of this one answer. A redirect would have to keep it somewhere in between."""
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "API key created",
            "key": obj,
            "secret": obj.secret,  # type: ignore[attr-defined]
        }
        return TemplateResponse(request, "admin/accounts/apikey/created.html", context)

    # Revoking

    @action(
        description="Revoke",
        icon="key_off",
        variant=ActionVariant.DANGER,
        permissions=["revoke"],
        dialog={
            "title": "Revoke this key?",
            "description": "Programs that use it are refused from the next request on. This cannot be undone.",
            "form_class": BaseDialogForm,
            "form_submit_text": "Revoke",
        },
    )
    def revoke(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        key = self.find(request, object_id)
        return self.carry_out(request, f"{key} is revoked.", services.revoke_api_key, key_id=key.pk)

    @action(description="Revoke", permissions=["revoke"])
    def revoke_chosen(self, request: HttpRequest, keys: QuerySet[ApiKey]) -> None:
        chosen = keys.filter(is_active=True).values_list("pk", flat=True)
        for key_id in chosen:
            services.revoke_api_key(key_id=key_id, by=operator(request))
        self.message_user(request, f"{len(chosen)} key{pluralize(len(chosen))} revoked.", messages.SUCCESS)
