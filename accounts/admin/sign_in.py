"""Signing in to the admin: the password, and then the code of an authenticator app for those who have one."""

from __future__ import annotations

import time
from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.auth import login, logout
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.crypto import constant_time_compare
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django.views.generic import FormView

from accounts import sign_in, two_factor
from accounts.admin.forms import CodeForm, SignInForm
from accounts.authentication import client_ip, user_agent
from accounts.exceptions import DomainError, NotAuthenticated, TooManyAttempts
from accounts.models import TotpDevice, User
from accounts.site import Standing, mark_verified, standing

BACKEND = "django.contrib.auth.backends.ModelBackend"
# In the session: whose password was right, and until when the code may follow.
HALF_WAY = "sign_in"
HALF_WAY_SECONDS = 300


class RefusingView(FormView):  # type: ignore[type-arg]
    """A form whose refusal by a service is shown on it."""

    def refuse(self, form: forms.BaseForm, refusal: DomainError) -> HttpResponse:
        form.add_error("code" if "code" in form.fields else None, str(refusal))
        answer = self.render_to_response(self.get_context_data(form=form))
        if isinstance(refusal, TooManyAttempts):
            answer.status_code = 429
            answer.headers["Retry-After"] = str(refusal.retry_after)
        return answer

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(**kwargs) | admin.site.each_context(self.request)


class SignInView(RefusingView, LoginView):
    """The first step. Who has an authenticator app is not signed in by it."""

    form_class = SignInForm
    template_name = "admin/login.html"

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        match standing(request):
            case Standing.OPEN:
                return redirect("admin:index")
            case Standing.MUST_SET_UP:
                return redirect("admin:two_factor_set_up")
            case Standing.MUST_VERIFY:
                # Such as a session from before the app was set up in another browser.
                logout(request)
                messages.info(request, "Two-factor sign-in is on for you. Sign in again, please.")
        return super().get(request, *args, **kwargs)

    def get_default_redirect_url(self) -> str:
        return reverse("admin:index")

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(**kwargs) | {"title": "Sign in", "app_path": self.request.get_full_path()}

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        given = form.cleaned_data
        try:
            user = sign_in.check_password(self.request, given["username"], given["password"])
            if not user.is_staff:
                sign_in.record_failure(self.request, user)
                raise NotAuthenticated("The e-mail address or the password is wrong.", code="invalid_credentials")
        except (NotAuthenticated, TooManyAttempts) as refusal:
            return self.refuse(form, refusal)
        if two_factor.confirmed_device(user):
            remember_half_way(self.request, user, then=self.get_success_url())
            return redirect("admin:sign_in_code")
        let_in(self.request, user, how="password")
        return HttpResponseRedirect(self.get_success_url())


@method_decorator(never_cache, name="dispatch")
class CodeView(RefusingView):
    """The second step, for who has just given the right password."""

    form_class = CodeForm
    template_name = "admin/two_factor/code.html"

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        user = user_half_way(request)
        if user is None:
            if HALF_WAY in request.session:
                del request.session[HALF_WAY]
                messages.error(request, "That took too long. Sign in again, please.")
            return redirect("admin:login")
        self.subject = user
        return cast("HttpResponse", super().dispatch(request, *args, **kwargs))

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(**kwargs) | {"title": "Sign in", "subject": self.subject}

    def form_valid(self, form: CodeForm) -> HttpResponse:
        request, user = self.request, self.subject
        code = form.cleaned_data["code"]
        try:
            proof = two_factor.verify(user=user, code=code, ip=client_ip(request), user_agent=user_agent(request))
        except (NotAuthenticated, TooManyAttempts) as refusal:
            return self.refuse(form, refusal)
        then = request.session.pop(HALF_WAY)["then"]
        let_in(request, user, how=proof.value, device=two_factor.confirmed_device(user))
        if proof is two_factor.Proof.RECOVERY_CODE:
            left = two_factor.codes_left(user)
            messages.warning(request, f"That recovery code is used up. You have {left} left.")
        return HttpResponseRedirect(then)


def let_in(request: HttpRequest, user: User, *, how: str, device: TotpDevice | None = None) -> None:
    """Sign in, under a new session key."""
    sign_in.record_success(user=user, ip=client_ip(request), user_agent=user_agent(request), how=how)
    login(request, user, backend=BACKEND)
    if device is not None:
        mark_verified(request, device)


def remember_half_way(request: HttpRequest, user: User, *, then: str) -> None:
    """Begin a new session that is nobody's yet. It ends with the password that it rests on."""
    request.session.flush()
    request.session[HALF_WAY] = {
        "user": str(user.pk),
        "hash": user.get_session_auth_hash(),
        "until": time.time() + HALF_WAY_SECONDS,
        "then": then,
    }


def user_half_way(request: HttpRequest) -> User | None:
    mark = request.session.get(HALF_WAY)
    if mark is None or mark["until"] < time.time():
        return None
    user = User.objects.filter(pk=mark["user"], is_active=True, is_staff=True).first()
    if user is None or not constant_time_compare(mark["hash"], user.get_session_auth_hash()):
        return None
    return user if two_factor.confirmed_device(user) else None
