"""The pages that links in mails lead to. They work without scripts, sessions and Redis."""

from __future__ import annotations

from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django.views.generic import View

from accounts import recovery, tasks
from accounts.authentication import client_ip, user_agent
from accounts.exceptions import InvalidInput
from accounts.models import OneTimeCode

Purpose = OneTimeCode.Purpose

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    # Keeps the token in the address to ourselves. With `no-referrer` browsers post forms with `Origin: null`, which
    # the CSRF check must refuse.
    "Referrer-Policy": "strict-origin",
    "X-Robots-Tag": "noindex",
}


class NewPasswordForm(forms.Form):
    password = forms.CharField(
        strip=False,
        max_length=1024,
        label="New password",
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password", "autofocus": True}),
    )
    again = forms.CharField(
        strip=False,
        max_length=1024,
        label="The same again",
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )
    revoke_api_keys = forms.BooleanField(
        required=False, label="Also revoke all API keys: programs that use them stop working"
    )

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if {"password", "again"} <= cleaned.keys() and cleaned["password"] != cleaned["again"]:
            self.add_error("again", "The two passwords differ.")
        return cleaned


@method_decorator(never_cache, name="dispatch")
class LinkPage(View):
    """Opening a link changes nothing, since mail scanners open them too. Only what the page posts uses it up."""

    purpose: OneTimeCode.Purpose
    template: str

    def get(self, request: HttpRequest) -> HttpResponse:
        try:
            return self.ask(request, request.GET.get("token", ""))
        except InvalidInput as refusal:
            return self.refuse(request, refusal)

    def post(self, request: HttpRequest) -> HttpResponse:
        try:
            return self.act(request, request.POST.get("token", ""))
        except InvalidInput as refusal:
            return self.refuse(request, refusal)

    def ask(self, request: HttpRequest, token: str, form: forms.Form | None = None) -> HttpResponse:
        """The page with what is to be sent; `InvalidInput` if the link is worth nothing."""
        user = recovery.recipient(token=token, purpose=self.purpose)
        return self.show(request, self.template, email=user.email, token=token, form=form or self.form(request))

    def act(self, request: HttpRequest, token: str) -> HttpResponse:
        """Use the link; `InvalidInput` if it is worth nothing."""
        raise NotImplementedError

    def form(self, request: HttpRequest) -> forms.Form | None:
        return None

    def refuse(self, request: HttpRequest, refusal: InvalidInput) -> HttpResponse:
        return self.show(request, "accounts/bad_link.html", status=400, purpose=self.purpose, refusal=refusal)

    def show(self, request: HttpRequest, template: str, status: int = 200, **context: Any) -> HttpResponse:
        response = render(request, template, context, status=status)
        for name, value in HEADERS.items():
            response.headers[name] = value
        return response


class VerifyEmailPage(LinkPage):
    purpose = Purpose.VERIFY_EMAIL
    template = "accounts/verify_email.html"

    def act(self, request: HttpRequest, token: str) -> HttpResponse:
        user = recovery.verify_email(token=token, ip=client_ip(request), user_agent=user_agent(request))
        return self.show(request, "accounts/email_verified.html", email=user.email)


class ResetPasswordPage(LinkPage):
    purpose = Purpose.RESET_PASSWORD
    template = "accounts/reset_password.html"

    def form(self, request: HttpRequest) -> forms.Form:
        return NewPasswordForm()

    def act(self, request: HttpRequest, token: str) -> HttpResponse:
        form = NewPasswordForm(request.POST)
        if not form.is_valid():
            return self.ask(request, token, form)
        try:
            user = recovery.reset_password(
                token=token,
                password=form.cleaned_data["password"],
                revoke_api_keys=form.cleaned_data["revoke_api_keys"],
                ip=client_ip(request),
                user_agent=user_agent(request),
            )
        except InvalidInput as refusal:
            if refusal.param != "password":
                raise
            form.add_error("password", str(refusal))
            return self.ask(request, token, form)
        tasks.enqueue(tasks.send_notice, "password_changed", user.email or "")
        return self.show(
            request, "accounts/password_reset.html", email=user.email, revoked=form.cleaned_data["revoke_api_keys"]
        )
