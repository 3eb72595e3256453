"""What operators fill in on the admin pages of users and keys. These forms check; services write."""

from __future__ import annotations

from typing import Any, ClassVar, cast

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone
from unfold.forms import AdminOwnPasswordChangeForm, AuthenticationForm, BaseDialogForm
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminEmailInputWidget,
    UnfoldAdminPasswordToggleWidget,
    UnfoldAdminPasswordWidget,
    UnfoldAdminTextInputWidget,
)

from accounts import services
from accounts.exceptions import InvalidInput
from accounts.models import ApiKey, User
from accounts.passwords import LONGEST
from accounts.roles import Role
from accounts.scopes import Scope, default_scopes

# A name is no text of many lines, although it is kept, encrypted, in a column of text.
ONE_LINE = {"full_name": UnfoldAdminTextInputWidget}


def password_field() -> forms.CharField:
    """One field that can be made visible, instead of two that cannot."""
    return forms.CharField(
        strip=False,
        max_length=LONGEST,
        widget=UnfoldAdminPasswordToggleWidget(attrs={"autocomplete": "new-password"}),
        help_text="Long, and hard to guess.",
    )


def clean_email(email: str | None) -> str | None:
    """The address as services keep it; their refusal of one is shown at the field."""
    if not email:
        return None
    try:
        return services.normalized_email(email)
    except InvalidInput as refusal:
        raise ValidationError(str(refusal)) from None


class NewUserForm(forms.ModelForm):  # type: ignore[type-arg]
    email = forms.EmailField(max_length=services.EMAIL_LENGTH, widget=UnfoldAdminEmailInputWidget)
    password = password_field()

    class Meta:
        model = User
        fields: ClassVar = ["email", "full_name", "is_verified", "is_staff", "is_superuser"]
        widgets: ClassVar = ONE_LINE

    def clean_email(self) -> str | None:
        return clean_email(self.cleaned_data["email"])

    def clean(self) -> dict[str, Any]:
        """The password is held against the name and the address, so it is checked after them."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        known = User(email=cleaned.get("email", ""), full_name=cleaned.get("full_name", ""))
        check_password(self, cleaned.get("password"), known)
        return cleaned


class UserForm(forms.ModelForm):  # type: ignore[type-arg]
    # Set by the admin for each request.
    operator: ClassVar[User]

    class Meta:
        model = User
        fields: ClassVar = [
            *("email", "full_name", "username", "preferred_model", "metadata"),
            *("is_active", "is_verified", "is_staff", "is_superuser", "groups"),
        ]
        widgets: ClassVar = ONE_LINE
        help_texts: ClassVar = {
            "groups": f"What staff may do who are not superusers. {'; '.join(f'{r}: {r.label}' for r in Role)}."
        }

    def clean_email(self) -> str | None:
        return clean_email(self.cleaned_data["email"])

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if self.instance.pk == self.operator.pk:
            for field in {"is_active", "is_staff", "is_superuser"} & set(self.changed_data):
                self.add_error(field, "You cannot take this from yourself: ask another operator.")
        return cleaned


class PasswordDialog(BaseDialogForm):
    password = password_field()

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        user = User.objects.filter(pk=self.object_id).first()
        if user is not None:
            check_password(self, cleaned.get("password"), user)
        return cleaned


class OwnPasswordForm(AdminOwnPasswordChangeForm):
    """Checks, and leaves the saving to the view, which knows who asks and from where."""

    def save(self, commit: bool = True) -> User:
        return cast("User", self.user)


class SignInForm(AuthenticationForm):
    """Takes address and password. The view checks them, because only it can tell a lock from a mistake."""

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = self.cleaned_data
        return cleaned


class CodeForm(forms.Form):
    code = forms.CharField(
        max_length=40,
        widget=UnfoldAdminTextInputWidget(
            attrs={"autocomplete": "one-time-code", "autocapitalize": "none", "spellcheck": "false"}
        ),
        help_text="The six digits that the app shows, or a recovery code.",
    )


class AppCodeForm(CodeForm):
    """For the first code of an app, when there are no recovery codes yet."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["code"].help_text = "The six digits that the app shows."


class SwitchOffForm(CodeForm):
    password = forms.CharField(
        strip=False,
        max_length=1000,
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "current-password"}),
    )
    field_order = ("password", "code")


class ApiKeyForm(forms.ModelForm):  # type: ignore[type-arg]
    # Set by the admin for each request.
    operator: ClassVar[User]
    scopes = forms.MultipleChoiceField(
        choices=Scope.choices, initial=default_scopes, widget=UnfoldAdminCheckboxSelectMultipleWidget
    )

    class Meta:
        model = ApiKey
        fields: ClassVar = ["user", "name", "scopes", "expires_at"]
        help_texts: ClassVar = {
            "name": "What it is for, so that it can be recognised later.",
        }

    def clean_user(self) -> User:
        user: User = self.cleaned_data["user"]
        if not user.is_active:
            raise ValidationError("This user is not active, so no key of theirs would work.")
        if (user.is_staff or user.is_superuser) and not self.operator.is_superuser and user != self.operator:
            raise ValidationError("Only a superuser may make a key for other staff.")
        return user

    def clean_expires_at(self) -> Any:
        expires_at = self.cleaned_data["expires_at"]
        if expires_at is not None and expires_at <= timezone.now():
            raise ValidationError("This lies in the past.")
        return expires_at


def check_password(form: forms.BaseForm, password: str | None, user: User) -> None:
    """Put the service's refusal of a weak password on the form's field."""
    if not password:
        return
    try:
        services.check_password_strength(password, user)
    except InvalidInput as refusal:
        form.add_error("password", str(refusal))
