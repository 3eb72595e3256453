"""Who people are on channels."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from unfold.contrib.filters.admin import AutocompleteSelectFilter, FieldTextFilter
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.forms import BaseDialogForm

from accounts import linking
from accounts.admin.base import HistoryAdmin
from accounts.models import ChannelIdentity


@admin.register(ChannelIdentity)
class ChannelIdentityAdmin(HistoryAdmin):
    """Identities come with a person's first message, and are linked by the person; here they are only taken away."""

    has_history = True
    list_display = ("identity", "username", "user", "created_at")
    list_select_related = ("user",)
    list_filter = (("channel_type", FieldTextFilter), ("user", AutocompleteSelectFilter))
    list_filter_submit = True
    search_fields = ("=channel_user_id", "user__email")
    search_help_text = "Id on the channel, or the user's e-mail"
    ordering = ("-id",)
    actions_detail = ("unlink",)
    fields = (("channel_type", "channel_user_id"), ("username", "user"), ("created_at", "row_id"))

    @display(description="identity", ordering="channel_type")
    def identity(self, identity: ChannelIdentity) -> str:
        return str(identity)

    def has_unlink_permission(self, request: HttpRequest, obj: str | None = None) -> bool:
        return request.user.has_perm("accounts.delete_channelidentity")

    @action(
        description="Unlink",
        icon="link_off",
        variant=ActionVariant.DANGER,
        permissions=["unlink"],
        dialog={
            "title": "Unlink this identity?",
            "description": "The next message from it is that of a new person.",
            "form_class": BaseDialogForm,
            "form_submit_text": "Unlink",
        },
    )
    def unlink(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        identity = self.find(request, object_id)
        return self.carry_out(request, f"{identity} is unlinked.", linking.unlink, identity_id=identity.pk)
