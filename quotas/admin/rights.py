"""Who may do what to quotas."""

from __future__ import annotations

from django.http import HttpRequest


def may_adjust(request: HttpRequest) -> bool:
    """To change what every period begins with."""
    return bool(request.user.has_perm("quotas.change_quota"))


def may_support(request: HttpRequest) -> bool:
    """To give something once, and to take it back; and to begin a running period anew."""
    return may_adjust(request) or bool(request.user.has_perm("accounts.support_user"))
