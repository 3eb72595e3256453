"""An operator's way into the admin, and what they change about their own account there."""

from __future__ import annotations

from typing import Any, cast

from django.contrib import admin
from django.contrib.auth.forms import PasswordChangeForm
from django.contrib.auth.views import PasswordChangeDoneView, PasswordChangeView
from django.http import HttpResponse
from django.urls import URLPattern, path, reverse_lazy

from accounts import services
from accounts.admin.base import operator
from accounts.admin.forms import OwnPasswordForm
from accounts.admin.sign_in import CodeView, SignInView
from accounts.admin.two_factor import RecoveryCodesView, SetUpView, SwitchOffView, TwoFactorView
from accounts.site import OperatorSite, Standing

# Who must set up a second factor first, but may do what makes an account safer.
WITH_PASSWORD = (Standing.MUST_SET_UP, Standing.OPEN)
ANY_STAFF = (Standing.MUST_VERIFY, *WITH_PASSWORD)


class OwnPasswordView(PasswordChangeView):
    """An operator's own password, changed by the service, which also writes the audit event."""

    form_class = OwnPasswordForm
    success_url = reverse_lazy("admin:password_change_done")
    template_name = "registration/password_change_form.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(**kwargs) | admin.site.each_context(self.request)

    def form_valid(self, form: PasswordChangeForm) -> HttpResponse:
        password = form.cleaned_data["new_password1"]
        by = operator(self.request)
        services.set_password(user_id=by.pk, password=password, by=by)
        form.user.refresh_from_db()
        return super().form_valid(form)


class OwnPasswordDoneView(PasswordChangeDoneView):
    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(**kwargs) | admin.site.each_context(self.request)


def own_urls() -> list[URLPattern]:
    site = cast("OperatorSite", admin.site)
    password, done = OwnPasswordView.as_view(), OwnPasswordDoneView.as_view()
    return [
        path("login/", SignInView.as_view(), name="login"),
        path("login/code/", CodeView.as_view(), name="sign_in_code"),
        path("logout/", site.view_for(site.logout, *ANY_STAFF), name="logout"),
        path("password_change/", site.view_for(password, *WITH_PASSWORD), name="password_change"),
        path("password_change/done/", site.view_for(done, *WITH_PASSWORD), name="password_change_done"),
        path("two-factor/", site.admin_view(TwoFactorView.as_view()), name="two_factor"),
        path("two-factor/set-up/", site.view_for(SetUpView.as_view(), *WITH_PASSWORD), name="two_factor_set_up"),
        path("two-factor/recovery-codes/", site.admin_view(RecoveryCodesView.as_view()), name="two_factor_codes"),
        path("two-factor/switch-off/", site.admin_view(SwitchOffView.as_view()), name="two_factor_switch_off"),
    ]
