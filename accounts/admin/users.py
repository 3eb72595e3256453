"""Users and what they may do in this admin. `quotas/admin` adds the plan to these pages."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.auth import update_session_auth_hash
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.models import Group
from django.db.models import Count, Model, QuerySet
from django.forms import BaseModelFormSet, ModelForm
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html_join
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import BooleanRadioFilter
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.forms import BaseDialogForm

from accounts import audit, services, sessions, tasks, two_factor
from accounts.admin.base import AuditedAdmin, as_uuid, operator
from accounts.admin.data import DATA_ACTIONS, UserDataAdmin, is_gone, state_label
from accounts.admin.display import EMPTY, label, link_to_list
from accounts.admin.forms import NewUserForm, PasswordDialog, UserForm
from accounts.admin.mails import MailActions
from accounts.models import TotpDevice, User
from accounts.snapshots import drop_snapshots

RECORD = (
    *("metadata", ("created_at", "updated_at"), ("last_login", "password_changed_at"), "two_factor"),
    "row_id",
)
SIGN_IN_ACTIONS = {
    "title": "Sign-in",
    "icon": "passkey",
    "items": ["change_password", *MailActions.mail_actions, "sign_out", "reset_two_factor"],
}


@admin.register(User)
class UserAdmin(MailActions, UserDataAdmin):
    """Users are never deleted here: their history hangs on them. Deactivating shuts them out at once."""

    form = UserForm
    purpose = (
        "Everybody who may call the API, and the staff of this admin. A user's own page changes plan, password, rights "
        "and data, and leads to all that is theirs."
    )
    list_display: tuple[str, ...] = ("person", "state", "rights", "created_at", "last_login")
    list_filter: tuple[Any, ...] = (
        ("is_active", BooleanRadioFilter),
        ("is_staff", BooleanRadioFilter),
        ("is_verified", BooleanRadioFilter),
        ("created_at", admin.DateFieldListFilter),
        ("last_login", admin.DateFieldListFilter),
    )
    search_fields = ("email", "username")
    search_help_text = "E-mail, user name or id"
    ordering = ("-id",)
    actions = ("activate", "deactivate")
    actions_detail: tuple[Any, ...] = (
        "new_key",
        SIGN_IN_ACTIONS,
        DATA_ACTIONS,
    )
    autocomplete_fields = ("groups",)
    readonly_fields: tuple[str, ...] = (
        *("row_id", "created_at", "updated_at", "last_login", "password_changed_at"),
        *("belongings", "two_factor"),
    )
    add_fieldsets = (
        (None, {"fields": ("email", "full_name", "password")}),
        ("Rights", {"fields": ("is_verified", "is_staff", "is_superuser")}),
    )
    fieldsets: tuple[Any, ...] = (
        (None, {"fields": (("email", "full_name"), ("username", "preferred_model"), "belongings")}),
        ("Rights", {"fields": ("is_active", "is_verified", "is_staff", "is_superuser", "groups")}),
        ("Record", {"fields": RECORD}),
    )

    @display(description="user", ordering="email", header=True)
    def person(self, user: User) -> list[str]:
        return [str(user), user.full_name]

    @display(description="state", ordering="is_active")
    def state(self, user: User) -> SafeString:
        return state_label(user)

    @display(description="rights", ordering="is_staff")
    def rights(self, user: User) -> SafeString | str:
        if user.is_superuser and user.is_staff:
            return label("superuser", "info")
        return label("staff", "info") if user.is_staff else EMPTY

    @display(description="belongs to this user")
    def belongings(self, user: User) -> SafeString:
        """Links to the lists of everything in this admin that points at a user, whichever application it is of."""
        links = []
        viewer: User | None = getattr(user, "viewer", None)
        for relation in User._meta.related_objects:
            related = relation.related_model._meta
            if viewer is None or not viewer.has_perm(f"{related.app_label}.view_{related.model_name}"):
                continue
            try:
                text = "aliases" if related.model is User else str(related.verbose_name_plural)
                text = text[:1].upper() + text[1:]
                key = f"{relation.field.name}__id__exact"
                links.append((link_to_list(text, f"{related.app_label}_{related.model_name}", **{key: user.pk}),))
            except NoReverseMatch:
                continue
        return format_html_join(" · ", "{}", links)

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> User | None:
        """The user also knows who looks at the page, so that no link is drawn that this person may not follow."""
        found: User | None = super().get_object(request, object_id, from_field)
        if found is not None:
            found.viewer = request.user  # type: ignore[attr-defined]
        return found

    @display(description="two-factor sign-in")
    def two_factor(self, user: User) -> SafeString | str:
        return label("on", "success") if two_factor.confirmed_device(user) else "off"

    # Permissions

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: User | str | None = None) -> bool:
        """Who is not a superuser may change no other staff: a new password is all it takes to become somebody."""
        return super().has_change_permission(request) and self.may_touch(request, obj)

    def has_support_permission(self, request: HttpRequest, obj: User | str | None = None) -> bool:
        """To help a user, without the right to change them; named by actions. Of staff, again only superusers."""
        helps = request.user.has_perm("accounts.support_user") or super().has_change_permission(request)
        return helps and self.may_touch(request, obj)

    def may_touch(self, request: HttpRequest, obj: User | str | None) -> bool:
        if obj is None:
            return True
        subject = obj if isinstance(obj, User) else self.get_object(request, obj)
        if subject is not None and is_gone(subject):
            return False
        if request.user.is_superuser:
            return True
        return subject is not None and (subject.pk == request.user.pk or not (subject.is_staff or subject.is_superuser))

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> tuple[str, ...]:
        if request.user.is_superuser:
            return self.readonly_fields
        return (*self.readonly_fields, "is_staff", "is_superuser", "groups")

    # Saving

    def get_form(
        self, request: HttpRequest, obj: User | None = None, change: bool = False, **kwargs: Any
    ) -> type[ModelForm[User]]:
        if obj is None:
            kwargs["form"] = NewUserForm
        form: Any = super().get_form(request, obj, change=change, **kwargs)
        form.operator = request.user
        return form  # type: ignore[no-any-return]

    def save_model(self, request: HttpRequest, obj: User, form: ModelForm[User], change: bool) -> None:
        by = operator(request)
        if change:
            changed = {name: form.cleaned_data[name] for name in form.changed_data if name != "groups"}
            services.administer_user(user_id=obj.pk, by=by, **changed)
        else:
            obj.pk = services.register_user(by=by, **form.cleaned_data).pk
        obj.refresh_from_db()
        if "email" in form.changed_data:
            tasks.enqueue(tasks.send_verification_mail, str(obj.pk))

    def save_related(
        self,
        request: HttpRequest,
        form: ModelForm[User],
        formsets: list[BaseModelFormSet[Any, Any]],
        change: bool,
    ) -> None:
        super().save_related(request, form, formsets, change)
        if "groups" in form.changed_data:
            names = [group.name for group in form.cleaned_data["groups"]]
            audit.record("user.groups_changed", by=operator(request), target=form.instance, groups=names)
            drop_snapshots(form.instance.pk)

    # Actions

    def has_add_key_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return request.user.has_perm("accounts.add_apikey")

    @action(
        description="Change password",
        icon="password",
        permissions=["change"],
        dialog={
            "title": "Change password",
            "description": "All of the user's sessions end, here and over the API. API keys stay as they are.",
            "form_class": PasswordDialog,
            "form_submit_text": "Change password",
        },
    )
    def change_password(self, request: HttpRequest, form: PasswordDialog, object_id: str) -> HttpResponse:
        user = self.find(request, object_id)
        answer = self.carry_out(
            request,
            f"{user} has a new password.",
            services.set_password,
            user_id=user.pk,
            password=form.cleaned_data["password"],
        )
        if user.pk == request.user.pk:
            user.refresh_from_db()
            update_session_auth_hash(request, user)
        return answer

    @action(
        description="Sign out everywhere",
        icon="logout",
        permissions=["support"],
        dialog={
            "title": "Sign out everywhere?",
            "description": "All of the user's sessions end, here and over the API. API keys stay as they are.",
            "form_class": BaseDialogForm,
            "form_submit_text": "Sign out",
        },
    )
    def sign_out(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        user = self.find(request, object_id)
        return self.carry_out(
            request, f"{user} is signed out everywhere.", sessions.sign_out_everywhere, user_id=user.pk
        )

    def has_reset_two_factor_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        """Only superusers, and not for themselves: their own page asks for the password and a code."""
        if object_id is None or not request.user.is_superuser:
            return bool(request.user.is_superuser)
        user_id = as_uuid(object_id)
        if user_id is None or user_id == request.user.pk:
            return False
        return TotpDevice.objects.filter(user_id=user_id, confirmed_at__isnull=False).exists()

    @action(
        description="Reset two-factor sign-in",
        icon="phonelink_erase",
        permissions=["reset_two_factor"],
        dialog={
            "title": "Reset two-factor sign-in?",
            "description": "For somebody who has lost both the app and the recovery codes. Until they set it up anew, "
            "the password alone lets them in: make sure that it is they who ask.",
            "form_class": BaseDialogForm,
            "form_submit_text": "Reset",
        },
    )
    def reset_two_factor(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        user = self.find(request, object_id)
        return self.carry_out(request, f"Two-factor sign-in of {user} is off.", two_factor.disable, user=user)

    @action(description="New API key", icon="key", permissions=["add_key"])
    def new_key(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return HttpResponseRedirect(f"{reverse('admin:accounts_apikey_add')}?{urlencode({'user': object_id})}")

    @action(description="Activate", permissions=["change"])
    def activate(self, request: HttpRequest, users: QuerySet[User]) -> None:
        self.set_active(request, users, True)

    @action(description="Deactivate", permissions=["change"], variant=ActionVariant.DANGER)
    def deactivate(self, request: HttpRequest, users: QuerySet[User]) -> None:
        self.set_active(request, users, False)

    def set_active(self, request: HttpRequest, users: QuerySet[User], is_active: bool) -> None:
        """Leave out the operator, those who are as they should be already, and those who may not be touched."""
        done = 0
        for user in users.exclude(pk=operator(request).pk).exclude(is_active=is_active):
            if self.has_change_permission(request, user):
                services.set_user_active(user=user, is_active=is_active, by=operator(request))
                done += 1
        self.message_user(
            request, f"{done} of the chosen users {'let in' if is_active else 'shut out'}.", messages.SUCCESS
        )


admin.site.unregister(Group)


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, AuditedAdmin):  # type: ignore[misc]
    """What staff who are not superusers may do. A user's page says which groups they are in."""

    purpose = (
        "What staff who are not superusers may do here and over the API. Who is in a group is set on the user's page."
    )
    list_display = ("name", "members")
    search_help_text = "Name"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Group]:
        groups: QuerySet[Group] = super().get_queryset(request)
        return groups.annotate(member_count=Count("user"))

    @display(description="members", ordering="member_count")
    def members(self, group: Group) -> SafeString:
        count = group.member_count  # type: ignore[attr-defined]
        return link_to_list(str(count), "accounts_user", groups__id__exact=group.pk)

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return bool(request.user.has_perm("auth.view_group"))

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Only superusers: who could edit a group, could give it everything."""
        return bool(request.user.is_active and request.user.is_superuser)

    has_add_permission = has_delete_permission = has_change_permission

    def record(self, what: str, request: HttpRequest, target: Model, **metadata: Any) -> None:
        """What the members may do is in their snapshots, too."""
        super().record(what, request, target, **metadata)
        for user_id in User.objects.filter(groups=target.pk).values_list("pk", flat=True):
            drop_snapshots(user_id)
