"""The admin site, and how far a session has come on its way into it."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import Any, cast

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.cache import never_cache
from unfold.sites import UnfoldAdminSite

from accounts.models import TotpDevice
from accounts.two_factor import confirmed_device

# In the session: the app that it was verified with. Another one, set up later, verifies anew.
VERIFIED_WITH = "two_factor_device"

View = Callable[..., HttpResponse]


class Standing(Enum):
    STRANGER = auto()
    MUST_VERIFY = auto()
    MUST_SET_UP = auto()
    OPEN = auto()


def standing(request: HttpRequest) -> Standing:
    """How far the session is. Who has an app is let in by a session that was verified with it, and by no other."""
    user = request.user
    if not (user.is_active and user.is_staff):
        return Standing.STRANGER
    device = confirmed_device(user)
    if device is not None:
        verified = request.session.get(VERIFIED_WITH) == str(device.pk)
        return Standing.OPEN if verified else Standing.MUST_VERIFY
    return Standing.MUST_SET_UP if settings.REQUIRE_OPERATOR_2FA else Standing.OPEN


def mark_verified(request: HttpRequest, device: TotpDevice) -> None:
    request.session[VERIFIED_WITH] = str(device.pk)


class OperatorSite(UnfoldAdminSite):  # type: ignore[misc]
    def has_permission(self, request: HttpRequest) -> bool:
        return standing(request) is Standing.OPEN

    def view_for(self, view: Any, *standings: Standing) -> View:
        """A page for sessions on their way into the admin, where `admin_view` is for those that have arrived."""

        def inner(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            if standing(request) not in standings:
                return redirect_to_login(request.get_full_path(), reverse("admin:login"))
            answer: HttpResponse = view(request, *args, **kwargs)
            return answer

        return cast("View", never_cache(inner))
