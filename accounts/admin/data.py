"""On the page of a user: merging it into another, taking its data away, and erasing the person."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.widgets import AutocompleteSelect
from django.core.exceptions import ValidationError
from django.db.models import Count
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.safestring import SafeString
from unfold.decorators import action
from unfold.enums import ActionVariant
from unfold.forms import BaseDialogForm
from unfold.widgets import UnfoldAdminTextInputWidget

from accounts import erasing, merging
from accounts.admin.base import OperatorAdmin, operator
from accounts.admin.display import label
from accounts.belongings import all_belongings
from accounts.data_views import export_response
from accounts.exceptions import DomainError
from accounts.models import AuditEvent, User

DATA_ACTIONS = {"title": "Data", "icon": "database", "items": ["export_data", "merge_into", "erase"]}


class MergeForm(forms.Form):
    target = forms.ModelChoiceField(
        label="The user who stays",
        queryset=User.objects.filter(is_active=True),
        widget=AutocompleteSelect(
            User._meta.get_field("merged_into"),
            admin.site,
            attrs={"class": "unfold-admin-autocomplete admin-autocomplete", "data-theme": "admin-autocomplete"},
        ),
        help_text="Search by e-mail, user name or id.",
        error_messages={"invalid_choice": "This user is not active."},
    )


class EraseDialog(BaseDialogForm):
    confirmation = forms.CharField(
        label="E-mail address or id of the user",
        max_length=254,
        widget=UnfoldAdminTextInputWidget(attrs={"autofocus": True, "autocomplete": "off"}),
        help_text="Type it, to show that it is this user whom you mean.",
    )

    def clean_confirmation(self) -> str:
        typed = str(self.cleaned_data["confirmation"]).strip().lower()
        user = User.objects.filter(pk=self.object_id).first()
        if user is None or typed not in {user.email, str(user.pk)}:
            raise ValidationError("This is neither the e-mail address nor the id of this user.")
        return typed


class UserDataAdmin(OperatorAdmin):
    change_form_before_template = "admin/accounts/user/state.html"

    def has_data_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        """Named by the actions. Only a superuser may do this to staff, and nobody to who is merged or erased."""
        if not request.user.has_perm("accounts.delete_user"):
            return False
        user = self.get_object(request, object_id) if object_id else None
        if user is None:
            return True
        return not is_gone(user) and (request.user.is_superuser or not (user.is_staff or user.is_superuser))

    def get_actions_detail(self, request: HttpRequest, object_id: str) -> list[Any]:
        """Nothing is offered where nothing can be done any more."""
        user = self.get_object(request, object_id)
        return [] if user is not None and is_gone(user) else super().get_actions_detail(request, object_id)

    @action(description="Export data", icon="download", permissions=["data"])
    def export_data(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        return export_response(request, user_id=self.find(request, object_id).pk, by=operator(request))

    @action(description="Merge into …", icon="merge", permissions=["data"])
    def merge_into(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """A page of its own: what moves is shown before, and nothing brings it back."""
        user = self.find(request, object_id)
        form = MergeForm(request.POST or None)
        if form.is_valid():
            target = form.cleaned_data["target"]
            try:
                merging.merge_users(source_id=user.pk, target_id=target.pk, by=operator(request))
            except DomainError as refusal:
                form.add_error("target", str(refusal))
            else:
                self.message_user(request, f"{user} is merged into {target}.")
                return HttpResponseRedirect(reverse("admin:accounts_user_change", args=[target.pk]))
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"Merge {user}",
            "original": user,
            "form": form,
            "media": self.media + form.media,
            "counts": counted_belongings(user),
        }
        return TemplateResponse(request, "admin/accounts/user/merge.html", context)

    @action(
        description="Erase",
        icon="person_remove",
        permissions=["data"],
        variant=ActionVariant.DANGER,
        dialog={
            "title": "Erase this user for good?",
            "description": "Profile, keys, sessions, channels, conversations and saved prompts are deleted, also of "
            "the users merged into this one. Requests, reservations and the plan stay without content, the record of "
            "what was done without names. Running calls end. Nothing brings this back.",
            "form_class": EraseDialog,
            "form_submit_text": "Erase",
        },
    )
    def erase(self, request: HttpRequest, form: EraseDialog, object_id: str) -> HttpResponse:
        user = self.find(request, object_id)
        return self.carry_out(request, "The user is erased.", erasing.erase_user, user_id=user.pk)


def is_gone(user: User) -> bool:
    """Whether nothing about the user can change any more."""
    return user.merged_into_id is not None or user.erased_at is not None


def state_label(user: User) -> SafeString:
    if user.erased_at is not None:
        return label("erased")
    if user.merged_into_id is not None:
        return label("merged")
    return label("active", "success") if user.is_active else label("shut out", "danger")


def counted_belongings(user: User) -> list[tuple[str, int]]:
    """How much a merge would move, of what there is at all."""
    counts = [
        (str(belonging.model._meta.verbose_name_plural), _count(belonging.rows_of(user.pk)))
        for belonging in all_belongings()
        if belonging.section and belonging.model not in {User, AuditEvent}
    ]
    return [(name, count) for name, count in counts if count]


def _count(rows: Any) -> int:
    return int(rows.aggregate(count=Count("pk"))["count"])
