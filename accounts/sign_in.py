"""Signing in with an e-mail address and a password: checked in one place, audited, and shut after too many failures.

django-axes counts failures by address and IP (`LOGIN_FAILURE_LIMIT`, `LOGIN_COOLOFF_MINUTES`), and its backend refuses
before a password is looked at. It counts in the database: a flushed or missing Redis must not end a lock.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any

from axes.models import AccessAttempt
from django.conf import settings
from django.contrib.auth import authenticate
from django.db import transaction
from django.http import HttpRequest
from django.utils import timezone

from accounts import audit
from accounts.authentication import client_ip, user_agent
from accounts.exceptions import NotAuthenticated, TooManyAttempts
from accounts.models import AuditEvent, User

LONGEST_NAME = 254


def check_password(request: HttpRequest, email: str, password: str) -> User:
    """The user whose password this is; nobody is signed in yet.

    `NotAuthenticated` if address or password is wrong or the account is shut, which takes the same work each time;
    `TooManyAttempts`, without looking at the password, while this address is locked for this IP.
    """
    name = normalised(email)
    if seconds := seconds_locked(name, client_ip(request)):
        raise TooManyAttempts(retry_after=seconds)
    user = authenticate(request, username=name, password=password)
    if user is None:
        record_failure(request, User.objects.filter(email=name).first())
        raise NotAuthenticated("The e-mail address or the password is wrong.", code="invalid_credentials")
    return user


def record_success(*, user: User, ip: str | None, user_agent: str, how: str) -> None:
    """Write down that a user has signed in, `how` (such as `password`), and forget the failures before."""
    with transaction.atomic():
        AccessAttempt.objects.filter(username=user.email, ip_address=ip).delete()
        audit.record("auth.signed_in", by=user, target=user, ip=ip, user_agent=user_agent, how=how)


def record_failure(request: HttpRequest, user: User | None) -> None:
    """Write down that somebody could not sign in; what they typed is written nowhere."""
    audit.record(
        "auth.sign_in_failed",
        by=None,
        target=user,
        status=AuditEvent.Status.FAILURE,
        ip=client_ip(request),
        user_agent=user_agent(request),
    )


def seconds_locked(name: str, ip: str | None) -> int:
    """For how long the address is locked for this IP; 0 if it is not."""
    now = timezone.now()
    recent = AccessAttempt.objects.filter(
        username=name, ip_address=ip, attempt_time__gt=now - settings.AXES_COOLOFF_TIME
    )
    # A row for each browser. The lock ends when so many of them are forgotten that the others are below the limit.
    counted, ends_at = 0, now
    for failed_at, failures in recent.order_by("-attempt_time").values_list("attempt_time", "failures_since_start"):
        counted += failures
        if counted >= settings.AXES_FAILURE_LIMIT:
            ends_at = failed_at + settings.AXES_COOLOFF_TIME
            break
    return ceil((ends_at - now).total_seconds())


def normalised(email: str) -> str:
    """The address as accounts keep it, and as failures are counted: however it is typed, it is one."""
    return email.strip().lower()[:LONGEST_NAME]


def counted_name(_request: HttpRequest, credentials: Mapping[str, Any] | None) -> str:
    """AXES_USERNAME_CALLABLE: what failures are counted by."""
    return normalised((credentials or {}).get("username") or "")
