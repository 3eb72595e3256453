"""Links to saved prompts, as operators read and revoke them. What opens them is shown to their owner, once."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter, RadioFilter
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.forms import BaseDialogForm

from accounts.admin.base import HistoryAdmin
from accounts.admin.display import label, link_to
from prompts import sharing
from prompts.models import ShareLink

WORKS, EXPIRED, REVOKED, OWNER_INACTIVE = "works", "expired", "revoked", "owner inactive"
COLOURS = {WORKS: "success", EXPIRED: "warning", REVOKED: "danger", OWNER_INACTIVE: "warning"}


class StateFilter(RadioFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(state, state.capitalize()) for state in (WORKS, EXPIRED, REVOKED, OWNER_INACTIVE)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[ShareLink]) -> QuerySet[ShareLink]:
        now = timezone.now()
        is_not_over = Q(expires_at=None) | Q(expires_at__gt=now)
        match self.value():
            case "works":
                return queryset.filter(is_not_over, revoked_at=None, user__is_active=True)
            case "expired":
                return queryset.filter(revoked_at=None, expires_at__lte=now)
            case "revoked":
                return queryset.filter(revoked_at__isnull=False)
            case "owner inactive":
                return queryset.filter(is_not_over, revoked_at=None, user__is_active=False)
            case _:
                return queryset


@admin.register(ShareLink)
class ShareLinkAdmin(HistoryAdmin):
    purpose = (
        "Links by which people without an account read one saved prompt, or one folder with all in it. Their owners "
        "make them; the token is shown once and kept as a hash. One that is abused is revoked here."
    )
    has_history = True
    list_display = ("shown_token", "user", "leads_to", "state", "use_count", "last_used_at", "expires_at")
    list_select_related = ("user", "prompt", "collection")
    list_filter = (
        StateFilter,
        ("user", AutocompleteSelectFilter),
        ("created_at", admin.DateFieldListFilter),
    )
    list_filter_submit = True
    search_fields = ("^prefix", "user__email")
    search_help_text = "Token or its beginning (shr_…), owner's e-mail or an id"
    ordering = ("-id",)
    actions_detail = ("revoke",)
    fields = (
        *(("shown_token", "user"), ("leads_to", "state"), ("use_count", "last_used_at")),
        *(("expires_at", "revoked_at"), ("created_at", "row_id")),
    )

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[ShareLink], search_term: str
    ) -> tuple[QuerySet[ShareLink], bool]:
        """Found as it is shown, and if somebody pastes a whole token, or an address that ends with it."""
        _before, mark, token = search_term.rpartition(sharing.MARK)
        if mark:
            return queryset.filter(prefix__startswith=token.partition("_")[0]), False
        return super().get_search_results(request, queryset, search_term)

    @display(description="token", ordering="prefix")
    def shown_token(self, link: ShareLink) -> str:
        return str(link)

    @display(description="leads to")
    def leads_to(self, link: ShareLink) -> SafeString | str:
        return link_to(link.prompt or link.collection)

    @display(description="state")
    def state(self, link: ShareLink) -> SafeString:
        state = state_of(link)
        return label(state, COLOURS[state])

    def has_revoke_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Named by the action. `obj` is an id: what is revoked already cannot be revoked again."""
        if not request.user.has_perm("prompts.change_sharelink"):
            return False
        return obj is None or ShareLink.objects.filter(pk=obj, revoked_at=None).exists()

    @action(
        description="Revoke",
        icon="link_off",
        variant=ActionVariant.DANGER,
        permissions=["revoke"],
        dialog={
            "title": "Revoke this link?",
            "description": "It leads nowhere from the next request on, for good; its owner can make another.",
            "form_class": BaseDialogForm,
            "form_submit_text": "Revoke",
        },
    )
    def revoke(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        link = self.find(request, object_id)
        links = ShareLink.objects.all()
        return self.carry_out(request, f"{link} is revoked.", sharing.revoke_link, links=links, link_id=link.pk)


def state_of(link: ShareLink) -> str:
    if link.revoked_at is not None:
        return REVOKED
    if link.expires_at is not None and link.expires_at <= timezone.now():
        return EXPIRED
    return WORKS if link.user.is_active else OWNER_INACTIVE
