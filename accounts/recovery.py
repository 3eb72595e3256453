"""Proving an e-mail address, and coming back without the password: both by a link that is sent there."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from axes.models import AccessAttempt
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from accounts import audit, codes, services
from accounts.caller import Caller
from accounts.models import OneTimeCode, User

Purpose = OneTimeCode.Purpose

LIFETIMES = {Purpose.VERIFY_EMAIL: timedelta(days=3), Purpose.RESET_PASSWORD: timedelta(hours=1)}
# An address gets one mail of each kind in this time, whoever asks for more.
PAUSE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Link:
    """What is to be sent, and where."""

    email: str
    token: str
    purpose: OneTimeCode.Purpose
    lifetime: timedelta


def verification_link(*, user_id: UUID) -> Link | None:
    """A link that proves a user's address; None if there is nothing to prove or one was sent just now."""
    return _make_link(User.objects.filter(pk=user_id, is_verified=False), Purpose.VERIFY_EMAIL)


def verification_link_for(*, email: str) -> Link | None:
    """The same for the user with an address, if there is one."""
    return _make_link(User.objects.filter(email=email.strip().lower(), is_verified=False), Purpose.VERIFY_EMAIL)


def reset_link(*, email: str) -> Link | None:
    """A link to a new password for the user with an address; None if nobody may have one or one was sent just now."""
    return _make_link(User.objects.filter(email=email.strip().lower()), Purpose.RESET_PASSWORD)


def verify_email(*, token: str, ip: str | None, user_agent: str) -> User:
    """Mark the address verified that a link was sent to; `InvalidInput` as in `codes.use`, or if it changed."""
    with transaction.atomic():
        user = _lock_recipient(token, Purpose.VERIFY_EMAIL)
        codes.use(token=token, purpose=Purpose.VERIFY_EMAIL)
        _mark_verified(user, by=_caller(user, ip, user_agent))
    return user


def reset_password(
    *, token: str, password: str, ip: str | None, user_agent: str, revoke_api_keys: bool = False
) -> User:
    """Give the user whom a link was sent to a new password, which ends all of their sessions.

    `InvalidInput` as in `codes.use`, or if the password is too weak: then the link stays good.
    """
    with transaction.atomic():
        user = _lock_recipient(token, Purpose.RESET_PASSWORD)
        by = _caller(user, ip, user_agent)
        services.check_password_strength(password, user)
        codes.use(token=token, purpose=Purpose.RESET_PASSWORD)
        services.set_password(user_id=user.pk, password=password, by=by, revoke_api_keys=revoke_api_keys)
        _mark_verified(user, by=by)
        # Whoever guessed, guessed at the old one.
        AccessAttempt.objects.filter(username=user.email).delete()
        audit.record("user.password_reset", by=by, target=user)
    return user


def recipient(*, token: str, purpose: OneTimeCode.Purpose) -> User:
    """Whom a link that could be used now was sent to; `InvalidInput` as in `codes.use`. Nothing is used up."""
    return _recipient(User.objects.all(), token, purpose)


def _make_link(users: QuerySet[User], purpose: OneTimeCode.Purpose) -> Link | None:
    lifetime = LIFETIMES[purpose]
    with transaction.atomic():
        user = users.filter(is_active=True).select_for_update(no_key=True).first()
        if user is None or user.email is None or _sent_just_now(user.email, purpose):
            return None
        token = codes.make_link_token(user=user, purpose=purpose, lifetime=lifetime, email=user.email)
    return Link(user.email, token, purpose, lifetime)


def _sent_just_now(email: str, purpose: OneTimeCode.Purpose) -> bool:
    since = timezone.now() - PAUSE
    return OneTimeCode.objects.filter(email=email, purpose=purpose, created_at__gt=since).exists()


def _lock_recipient(token: str, purpose: OneTimeCode.Purpose) -> User:
    """Lock the user before the code is used: whoever changes a user, and then voids their codes, has the same order."""
    return _recipient(User.objects.select_for_update(no_key=True), token, purpose)


def _recipient(users: QuerySet[User], token: str, purpose: OneTimeCode.Purpose) -> User:
    code = codes.find(token=token, purpose=purpose)
    # Neither merged nor erased users are active.
    user = users.filter(pk=code.user_id, email=code.email, is_active=True).first()
    if user is None:
        raise codes.invalid()
    return user


def _caller(user: User, ip: str | None, user_agent: str) -> Caller:
    return Caller(user_id=user.pk, email=user.email or "", ip=ip, user_agent=user_agent)


def _mark_verified(user: User, *, by: Caller) -> None:
    now = timezone.now()
    if User.objects.filter(pk=user.pk, is_verified=False).update(is_verified=True, updated_at=now):
        audit.record("user.email_verified", by=by, target=user)
    user.is_verified = True
