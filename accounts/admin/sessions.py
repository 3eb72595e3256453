"""Where users are signed in, and which of their tokens are worth nothing any more."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.defaultfilters import pluralize
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter, RadioFilter
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.forms import BaseDialogForm
from unfold.widgets import UnfoldAdminTextareaWidget

from accounts import sessions, tokens
from accounts.admin.base import HistoryAdmin, as_uuid, operator
from accounts.admin.display import EMPTY, label, link_to
from accounts.exceptions import NotAuthenticated
from accounts.models import BlacklistedToken, Session, User

LIVE, ENDED, EXPIRED = "live", "ended", "expired"
# Characters of a user agent that a list shows.
AGENT_LENGTH = 36


class StateFilter(RadioFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(state, state.capitalize()) for state in (LIVE, ENDED, EXPIRED)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Session]) -> QuerySet[Session]:
        now = timezone.now()
        match self.value():
            case "live":
                return queryset.filter(revoked_at=None, expires_at__gt=now)
            case "ended":
                return queryset.filter(revoked_at__isnull=False)
            case "expired":
                return queryset.filter(revoked_at=None, expires_at__lte=now)
            case _:
                return queryset


@admin.register(Session)
class SessionAdmin(HistoryAdmin):
    has_history = True
    purpose = (
        "Where users are signed in over the API, a device each. Whoever is signed in to this admin alone is not "
        "listed: “Sign out everywhere” on a user's page ends that, too. API keys need no session."
    )
    list_display = ("user", "where", "state", "address", "last_seen_at", "created_at")
    list_select_related = ("user",)
    list_filter = (StateFilter, ("revoked_reason", ChoicesDropdownFilter), ("user", AutocompleteSelectFilter))
    list_filter_submit = True
    search_fields = ("user__email", "device", "ip")
    search_help_text = "E-mail, device, IP or id"
    ordering = ("-id",)
    actions = ("revoke_chosen",)
    actions_detail = ("revoke",)
    fieldsets = (
        (None, {"fields": (("user", "state"), ("device", "address"), "user_agent")}),
        ("Record", {"fields": (("created_at", "last_seen_at"), ("expires_at", "revoked_at"), "row_id")}),
    )

    @display(description="device", header=True)
    def where(self, session: Session) -> list[str]:
        agent = session.user_agent
        return [session.device or EMPTY, agent if len(agent) <= AGENT_LENGTH else f"{agent[:AGENT_LENGTH]}…"]

    @display(description="IP", ordering="ip", empty_value=EMPTY)
    def address(self, session: Session) -> str | None:
        return session.ip

    @display(description="state")
    def state(self, session: Session) -> SafeString:
        if session.revoked_at is not None:
            return label(session.get_revoked_reason_display().lower(), "danger")
        return label(LIVE, "success") if session.expires_at > timezone.now() else label(EXPIRED, "warning")

    def has_revoke_permission(self, request: HttpRequest, obj: str | None = None) -> bool:
        """Named by the actions. `obj` is an id: what has ended cannot be ended again."""
        if not (request.user.has_perm("accounts.support_user") or request.user.has_perm("accounts.change_session")):
            return False
        if obj is None:
            return True
        session = Session.objects.live().filter(pk=obj).select_related("user").first()
        return session is not None and (request.user.is_superuser or not session.user.is_staff)

    @action(
        description="Sign out",
        icon="logout",
        variant=ActionVariant.DANGER,
        permissions=["revoke"],
        dialog={
            "title": "End this session?",
            "description": "All of its tokens are refused from the next request on.",
            "form_class": BaseDialogForm,
            "form_submit_text": "Sign out",
        },
    )
    def revoke(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        session = self.find(request, object_id)
        return self.carry_out(request, "The session has ended.", sessions.revoke_session, session_id=session.pk)

    @action(description="Sign out", permissions=["revoke"])
    def revoke_chosen(self, request: HttpRequest, chosen: QuerySet[Session]) -> None:
        others = chosen if request.user.is_superuser else chosen.filter(user__is_staff=False)
        live = list(others.filter(revoked_at=None).values_list("pk", flat=True))
        for session_id in live:
            sessions.revoke_session(session_id=session_id, by=operator(request))
        self.message_user(request, f"{len(live)} session{pluralize(len(live))} ended.", messages.SUCCESS)


class TokenDialog(BaseDialogForm):
    """A pasted token. Its signature is checked, so that nobody takes a wrong one for refused."""

    token = forms.CharField(
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 5, "autocomplete": "off"}),
        help_text="The whole access token, as it stands after “Bearer”. It is not kept, only its id is.",
    )

    def clean_token(self) -> tokens.TokenClaims:
        try:
            return tokens.read_access_token(self.cleaned_data["token"].strip())
        except NotAuthenticated as refusal:
            raise ValidationError(str(refusal)) from None


@admin.register(BlacklistedToken)
class BlacklistedTokenAdmin(HistoryAdmin):
    purpose = (
        "Tokens that are refused although their time is not over: the refresh tokens of ended sessions, and single "
        "access tokens that were blacklisted here, such as one that turned up in a log."
    )
    list_display = ("created_at", "shown_type", "owner", "reason", "token_id", "expires_at")
    list_select_related = ("session__user",)
    list_filter = (("token_type", ChoicesDropdownFilter), ("reason", ChoicesDropdownFilter))
    search_fields = ("jti", "session__user__email")
    search_help_text = "Token id (jti) or e-mail"
    ordering = ("-id",)
    actions_list = ("blacklist",)
    fields = (
        *(("shown_type", "reason"), ("owner", "session"), "token_id", ("created_at", "expires_at")),
        ("blacklisted_by", "row_id"),
    )

    @display(description="token", ordering="token_type")
    def shown_type(self, token: BlacklistedToken) -> SafeString:
        return label(token.get_token_type_display().lower(), "info")

    @display(description="owner")
    def owner(self, token: BlacklistedToken) -> SafeString | str:
        return link_to(token.session.user)

    @display(description="token id (jti)", ordering="jti")
    def token_id(self, token: BlacklistedToken) -> str:
        return token.jti

    @display(description="blacklisted by")
    def blacklisted_by(self, token: BlacklistedToken) -> SafeString | str:
        return link_to(User.objects.filter(pk=token.revoked_by).first() if token.revoked_by else None)

    def has_blacklist_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("accounts.add_blacklistedtoken")

    @action(
        description="Blacklist a token",
        icon="block",
        permissions=["blacklist"],
        dialog={
            "title": "Blacklist an access token",
            "description": "For one that leaked: it is refused from the next request on. Its session goes on with "
            "other tokens; to end that as well, sign it out on its own page.",
            "form_class": TokenDialog,
            "form_submit_text": "Blacklist",
        },
    )
    def blacklist(self, request: HttpRequest, form: TokenDialog) -> HttpResponse:
        claims = form.cleaned_data["token"]
        return self.carry_out(
            request,
            "The token is blacklisted.",
            sessions.blacklist_access_token,
            token_id=claims.id,
            session_id=claims.session_id,
            expires_at=claims.expires_at,
        )

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[BlacklistedToken], search_term: str
    ) -> tuple[QuerySet[BlacklistedToken], bool]:
        """A token's id looks like that of a row, and is what one searches for."""
        if not search_term:
            return queryset, False
        named = Q(jti=search_term.strip()) | Q(session__user__email__icontains=search_term)
        pk = as_uuid(search_term)
        return queryset.filter(named | Q(pk=pk) if pk else named), False
