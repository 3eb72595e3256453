"""Who people are on channels."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
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
    purpose = (
        "Who somebody is on Slack, Discord and the like, as programs name them in X-On-Behalf-Of. An identity appears "
        "with the person's first message; people link theirs to one account by a code."
    )
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
            "description": "The account keeps what it has. The next message from this identity is "
            "that of a new person, without history and plan.",
            "form_class": BaseDialogForm,
            "form_submit_text": "Unlink",
        },
    )
    def unlink(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        identity = self.find(request, object_id)
        answer = self.carry_out(request, f"{identity} is unlinked.", linking.unlink, identity_id=identity.pk)
        if ChannelIdentity.objects.filter(pk=identity.pk).exists():
            return answer
        # The page that the dialog was opened on is gone.
        return HttpResponse(headers={"HX-Redirect": reverse("admin:accounts_channelidentity_changelist")})
