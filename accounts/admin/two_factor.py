"""The pages on which operators set up and switch off their own two-factor sign-in."""

from __future__ import annotations

from typing import Any, cast

import qrcode
from django.conf import settings
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils.safestring import SafeString, mark_safe
from django.views import View
from qrcode.image.svg import SvgPathImage

from accounts import sign_in, two_factor
from accounts.admin.base import operator
from accounts.admin.forms import AppCodeForm, CodeForm, SwitchOffForm
from accounts.authentication import client_ip, user_agent
from accounts.exceptions import Conflict, DomainError, TooManyAttempts
from accounts.models import TotpDevice, User
from accounts.site import mark_verified

STATE = "admin/two_factor/state.html"
SET_UP = "admin/two_factor/set_up.html"
CODES = "admin/two_factor/codes.html"


class OwnView(View):
    @property
    def subject(self) -> User:
        return cast("User", self.request.user)

    def page(self, template: str, title: str, **context: Any) -> HttpResponse:
        return TemplateResponse(
            self.request, template, admin.site.each_context(self.request) | context | {"title": title}
        )

    def verify(self, code: str) -> None:
        request = self.request
        two_factor.verify(user=self.subject, code=code, ip=client_ip(request), user_agent=user_agent(request))


class TwoFactorView(OwnView):
    """Whether it is on, and what can be done about it."""

    def get(self, request: HttpRequest) -> HttpResponse:
        return self.state()

    def state(self, **forms: Any) -> HttpResponse:
        context = {
            "device": two_factor.confirmed_device(self.subject),
            "codes_left": two_factor.codes_left(self.subject),
            "codes_form": CodeForm(prefix="codes"),
            "off_form": SwitchOffForm(prefix="off"),
            "required": settings.REQUIRE_OPERATOR_2FA,
        }
        return self.page(STATE, "Two-factor sign-in", **(context | forms))

    def refuse(self, name: str, form: CodeForm | SwitchOffForm, refusal: DomainError) -> HttpResponse:
        form.add_error("code", str(refusal))
        answer = self.state(**{name: form})
        if isinstance(refusal, TooManyAttempts):
            answer.status_code = 429
            answer.headers["Retry-After"] = str(refusal.retry_after)
        return answer


class SetUpView(OwnView):
    """Shows a fresh secret at each visit: one that was shown before and not confirmed is worth nothing."""

    def get(self, request: HttpRequest) -> HttpResponse:
        try:
            device = two_factor.begin_setup(user=self.subject)
        except Conflict:
            return redirect("admin:two_factor")
        return self.set_up(device, AppCodeForm())

    def post(self, request: HttpRequest) -> HttpResponse:
        device = TotpDevice.objects.filter(user=self.subject).first()
        if device is None or device.confirmed_at is not None:
            return redirect("admin:two_factor")
        form = AppCodeForm(request.POST)
        if not form.is_valid():
            return self.set_up(device, form)
        try:
            codes = two_factor.confirm_setup(user=self.subject, code=form.cleaned_data["code"], by=operator(request))
        except DomainError as refusal:
            form.add_error("code", str(refusal))
            return self.set_up(device, form)
        request.session.cycle_key()
        mark_verified(request, device)
        return self.page(CODES, "Two-factor sign-in is on", codes=codes)

    def set_up(self, device: TotpDevice, form: AppCodeForm) -> HttpResponse:
        return self.page(
            SET_UP,
            "Set up two-factor sign-in",
            form=form,
            qr_code=qr_code(two_factor.provisioning_uri(device=device)),
            secret=two_factor.typed_secret(device=device),
            required=settings.REQUIRE_OPERATOR_2FA,
        )


class RecoveryCodesView(TwoFactorView):
    def get(self, request: HttpRequest) -> HttpResponse:
        return redirect("admin:two_factor")

    def post(self, request: HttpRequest) -> HttpResponse:
        form = CodeForm(request.POST, prefix="codes")
        if not form.is_valid():
            return self.state(codes_form=form)
        try:
            self.verify(form.cleaned_data["code"])
            codes = two_factor.new_recovery_codes(user=self.subject, by=operator(request))
        except DomainError as refusal:
            return self.refuse("codes_form", form, refusal)
        return self.page(CODES, "New recovery codes", codes=codes)


class SwitchOffView(TwoFactorView):
    def get(self, request: HttpRequest) -> HttpResponse:
        return redirect("admin:two_factor")

    def post(self, request: HttpRequest) -> HttpResponse:
        if settings.REQUIRE_OPERATOR_2FA:
            messages.error(request, "This installation requires two-factor sign-in of operators.")
            return redirect("admin:two_factor")
        form = SwitchOffForm(request.POST, prefix="off")
        if not form.is_valid():
            return self.state(off_form=form)
        try:
            sign_in.check_password(request, self.subject.email or "", form.cleaned_data["password"])
            self.verify(form.cleaned_data["code"])
            two_factor.disable(user=self.subject, by=operator(request))
        except DomainError as refusal:
            return self.refuse("off_form", form, refusal)
        messages.success(request, "Two-factor sign-in is off.")
        return redirect("admin:two_factor")


def qr_code(text: str) -> SafeString:
    """An SVG to stand in a page: black on white in both themes, since not all apps read it the other way round."""
    drawn = qrcode.make(text, image_factory=SvgPathImage, box_size=10, border=4)
    svg: str = drawn.to_string(encoding="unicode")
    return mark_safe(svg)  # noqa: S308 - made of squares, holds no text
