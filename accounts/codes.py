"""Codes that are sent out to be shown once. Links by e-mail and codes that are typed in share the lower half."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta
from uuid import UUID

from django.core.signing import BadSignature, Signer
from django.db.models import F
from django.utils import timezone

from accounts.exceptions import InvalidInput
from accounts.models import OneTimeCode, User

CODE_BYTES = 32
# Nobody's link is longer: 43 characters of code, a dot, 43 of signature.
LONGEST_TOKEN = 100


def make_link_token(*, user: User, purpose: OneTimeCode.Purpose, lifetime: timedelta, email: str) -> str:
    """A new text for a link to `email`: 256 random bits, signed so that a forged one never reaches the database."""
    code = secrets.token_urlsafe(CODE_BYTES)
    store(user_id=user.pk, purpose=purpose, code_hash=_sha256(code), lifetime=lifetime, email=email)
    return _signer(purpose).sign(code)


def find(*, token: str, purpose: OneTimeCode.Purpose) -> OneTimeCode:
    """The code of a link that could be used now, left unused; refused as in `use`."""
    return find_by_hash(code_hash=_hash_of_link(token, purpose), purpose=purpose)


def use(*, token: str, purpose: OneTimeCode.Purpose) -> OneTimeCode:
    """Use a link up; `InvalidInput` with `invalid_link` (forged, unknown, void), `link_expired` or `link_used`."""
    return use_by_hash(code_hash=_hash_of_link(token, purpose), purpose=purpose)


def withdraw(*, token: str, purpose: OneTimeCode.Purpose) -> None:
    """Forget a link that could not be sent, so that another may follow at once."""
    OneTimeCode.objects.filter(code_hash=_hash_of_link(token, purpose), used_at=None).delete()


# What every kind of code shares --------------------------------------------------------------------------------------


def store(
    *, user_id: UUID, purpose: OneTimeCode.Purpose, code_hash: str, lifetime: timedelta, email: str = ""
) -> OneTimeCode:
    """Keep a code by its hash (SHA-256, in hex) for `lifetime`."""
    now = timezone.now()
    return OneTimeCode.objects.create(
        user_id=user_id, purpose=purpose, code_hash=code_hash, email=email, created_at=now, expires_at=now + lifetime
    )


def find_by_hash(
    *, code_hash: str, purpose: OneTimeCode.Purpose, noun: str = "link", param: str = "token"
) -> OneTimeCode:
    """The code that could be used now, left unused; refused as in `use_by_hash`."""
    code = OneTimeCode.objects.filter(code_hash=code_hash, purpose=purpose).first()
    if code is None or code.used_at is not None or code.expires_at <= timezone.now():
        raise _refusal(code, noun=noun, param=param)
    return code


def use_by_hash(
    *, code_hash: str, purpose: OneTimeCode.Purpose, noun: str = "link", param: str = "token"
) -> OneTimeCode:
    """Use a code up: of any number of attempts at once, one succeeds.

    `InvalidInput` about the field `param`, with a code made of `noun`: `invalid_link`, `link_expired`, `link_used`.
    """
    now = timezone.now()
    codes = OneTimeCode.objects.filter(code_hash=code_hash, purpose=purpose)
    used = codes.filter(used_at=None, expires_at__gt=now).update(used_at=now)
    code = codes.first()
    if not used or code is None:
        raise _refusal(code, noun=noun, param=param)
    return code


def void(*, user_id: UUID, purpose: OneTimeCode.Purpose) -> None:
    """Make the unused codes of a user worthless.

    A void code ends when it began. Its row stays, so that it still counts as sent.
    """
    OneTimeCode.objects.filter(user_id=user_id, purpose=purpose, used_at=None).update(expires_at=F("created_at"))


def invalid(*, noun: str = "link", param: str = "token") -> InvalidInput:
    return InvalidInput(f"This {noun} is not valid.", code=f"invalid_{noun}", param=param)


def _refusal(code: OneTimeCode | None, *, noun: str, param: str) -> InvalidInput:
    if code is None or code.expires_at <= code.created_at:
        return invalid(noun=noun, param=param)
    if code.used_at is not None:
        return InvalidInput(f"This {noun} was used already.", code=f"{noun}_used", param=param)
    return InvalidInput(f"This {noun} has expired.", code=f"{noun}_expired", param=param)


def _signer(purpose: OneTimeCode.Purpose) -> Signer:
    # A link is good for its own purpose alone. A colon, the usual mark, would be escaped in addresses.
    return Signer(salt=f"accounts.codes.{purpose}", sep=".")


def _hash_of_link(token: str, purpose: OneTimeCode.Purpose) -> str:
    try:
        if len(token) > LONGEST_TOKEN:
            raise BadSignature
        return _sha256(_signer(purpose).unsign(token))
    except BadSignature:
        raise invalid() from None


def _sha256(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()
