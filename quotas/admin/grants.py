"""What was given to users on top of their quotas, and what is left of it."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter, DropdownFilter
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.views import ChangeList

from accounts.admin.base import RowList
from accounts.admin.display import label, link_to
from accounts.admin.imports import ServiceTransferAdmin
from quotas import services
from quotas.admin.display import share_bar
from quotas.admin.forms import RevokeDialog
from quotas.admin.grant_states import bring_up_to_date, state_of
from quotas.admin.rights import may_adjust, may_support
from quotas.admin.transfers import GrantResource, GrantRows
from quotas.models import Grant

SPENT = Q(spent=F("amount"))
COLOURS = {"open": "success", "expired": "warning", "revoked": "danger"}


class GrantList(RowList):
    result_list: Any

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        grants = list(self.result_list)
        bring_up_to_date(grants)
        self.result_list = grants


class StateFilter(DropdownFilter):
    """By what is stored: one that was spent since it was last looked at is still among the open ones."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("open", "Open"), ("spent", "Spent"), ("expired", "Expired"), ("revoked", "Revoked")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Grant]) -> QuerySet[Grant]:
        now = timezone.now()
        expired = Q(expires_at__lte=Coalesce(F("closed_at"), now))
        match self.value():
            case "open":
                return queryset.filter(~SPENT, closed_at=None).exclude(expires_at__lte=now)
            case "spent":
                return queryset.filter(SPENT)
            case "expired":
                return queryset.filter(~SPENT, expired)
            case "revoked":
                return queryset.filter(~SPENT, Q(expires_at=None) | ~expired, closed_at__isnull=False)
            case _:
                return queryset


@admin.register(Grant)
class GrantAdmin(ServiceTransferAdmin):
    """Read-only: a grant is made on the page of its quota, and taken back here."""

    purpose = (
        "What users were given on top of their quotas, once: until it is spent or expires. A grant is made on the page "
        "of a quota."
    )
    resource_classes = (GrantResource,)
    import_resource_classes = (GrantRows,)
    import_note = (
        "Each row is a new grant to one user, by e-mail address or id: a file that is imported twice grants twice. "
        "A cost is in micro-USD, a time in UTC; where expires_at is empty, the grant stays until it is spent."
    )
    list_display = ("user", "quota_link", "usage", "state", "expires_at", "reason", "created_at")
    list_select_related = ("quota__user",)
    list_filter = (StateFilter, ("quota__user", AutocompleteSelectFilter))
    list_filter_submit = True
    search_fields = ("quota__user__email", "reason")
    search_help_text = "User's e-mail, reason, or a grant's id"
    ordering = ("-id",)
    has_history = False
    actions_detail = ("revoke",)
    fieldsets = (
        (None, {"fields": (("user", "quota_link"), ("usage", "state"), "reason")}),
        ("Record", {"fields": (("created_at", "expires_at"), ("closed_at", "row_id"))}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Grant]:
        grants: QuerySet[Grant] = super().get_queryset(request)
        return grants.select_related("quota__user")

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return GrantList

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Grant | None:
        found: Grant | None = super().get_object(request, object_id, from_field)
        if found is not None:
            bring_up_to_date([found])
        return found

    @display(description="user", ordering="quota__user__email")
    def user(self, grant: Grant) -> str:
        return str(grant.quota.user)

    @display(description="quota")
    def quota_link(self, grant: Grant) -> SafeString | str:
        return link_to(grant.quota)

    @display(description="spent")
    def usage(self, grant: Grant) -> SafeString:
        return share_bar(grant.spent, grant.amount, grant.quota.unit)

    @display(description="state")
    def state(self, grant: Grant) -> SafeString:
        state = state_of(grant)
        return label(state, COLOURS.get(state, ""))

    # Permissions

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Grant | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Grant | None = None) -> bool:
        return False

    def may_import(self, request: HttpRequest) -> bool:
        return may_adjust(request)

    def has_revoke_permission(self, request: HttpRequest, obj: str | None = None) -> bool:
        """Who may give it may take it back. `obj` is an id: what is spent or expired cannot be taken back."""
        if not may_support(request):
            return False
        found = self.get_object(request, obj) if obj else None
        return found is None or state_of(found) == "open"

    @action(
        description="Revoke",
        icon="undo",
        permissions=["revoke"],
        variant=ActionVariant.DANGER,
        dialog={
            "title": "Revoke this grant?",
            "description": "What is left of it is taken back. What is spent stays spent.",
            "form_class": RevokeDialog,
            "form_submit_text": "Revoke",
        },
    )
    def revoke(self, request: HttpRequest, form: RevokeDialog, object_id: str) -> HttpResponse:
        grant = self.find(request, object_id)
        done = f"{grant.quota.user}: what was left of the grant is taken back."
        return self.carry_out(request, done, services.revoke_grant, grant=grant, reason=form.cleaned_data["reason"])
