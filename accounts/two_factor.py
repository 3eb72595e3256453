"""Two-factor sign-in: an authenticator app (RFC 6238), and recovery codes for when it is lost."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from base64 import b32encode
from datetime import datetime, timedelta
from enum import StrEnum
from urllib.parse import quote, urlencode

from django.db import IntegrityError, transaction
from django.db.models import F, Q
from django.utils import timezone
from django_otp.oath import TOTP

from accounts import audit
from accounts.caller import Caller
from accounts.exceptions import Conflict, InvalidInput, NotAuthenticated, TooManyAttempts
from accounts.models import AuditEvent, RecoveryCode, TotpDevice, User

ISSUER = "Mainstay"
SECRET_BYTES = 20
RECOVERY_CODES = 10
# Crockford's base 32, whose letters are not mistaken for digits: 16 of them are 80 bits, so a plain hash protects them.
ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
MISREAD = str.maketrans("oil", "011")
RECOVERY_CODE = re.compile(rf"[{ALPHABET}]{{16}}")
APP_CODE = re.compile(r"[0-9]{6}")
# A clock may be one step (30 seconds) fast or slow.
STEPS = (-1, 0, 1)

FREE_FAILURES = 5
# Seconds to wait after the fifth wrong code, the sixth and so on: guessing gets four tries an hour.
WAITS = (30, 60, 120, 240, 480, 900)


class Proof(StrEnum):
    """What a second factor was shown by."""

    APP = "authenticator_app"
    RECOVERY_CODE = "recovery_code"


def confirmed_device(user: User) -> TotpDevice | None:
    """The app that a user signs in with, if they have set one up; asks the database once for each `user`."""
    device: TotpDevice | None = getattr(user, "totp_device", None)
    return device if device is not None and device.confirmed_at is not None else None


def codes_left(user: User) -> int:
    return RecoveryCode.objects.filter(user=user, used_at=None).count()


# Setting up and switching off


def begin_setup(*, user: User) -> TotpDevice:
    """A device with a fresh secret, which is of no use until it is confirmed and replaces one that never was.

    `Conflict` if the user has a confirmed one: that has to be switched off first.
    """
    try:
        with transaction.atomic():
            TotpDevice.objects.filter(user=user, confirmed_at=None).delete()
            return TotpDevice.objects.create(user=user, secret=secrets.token_hex(SECRET_BYTES))
    except IntegrityError:
        raise Conflict("Two-factor sign-in is on already.", code="two_factor_on") from None


def provisioning_uri(*, device: TotpDevice) -> str:
    """What the QR code says to an authenticator app (the Key Uri Format that such apps agreed on)."""
    label = quote(f"{ISSUER}:{device.user}", safe=":")
    parameters = {
        "secret": typed_secret(device=device),
        "issuer": ISSUER,
        "algorithm": "SHA1",
        "digits": 6,
        "period": 30,
    }
    return f"otpauth://totp/{label}?{urlencode(parameters)}"


def typed_secret(*, device: TotpDevice) -> str:
    """The secret as people type it into an app that cannot see the QR code."""
    return b32encode(bytes.fromhex(device.secret)).decode()


def confirm_setup(*, user: User, code: str, by: Caller | User) -> list[str]:
    """Switch two-factor sign-in on, if `code` shows that the app has the secret; the recovery codes, seen only here.

    `Conflict` if nothing is being set up, `InvalidInput` if the code is wrong.
    """
    device = TotpDevice.objects.filter(user=user, confirmed_at=None).first()
    if device is None:
        raise Conflict("Two-factor sign-in is not being set up.", code="two_factor_not_begun")
    now = timezone.now()
    step = _step_of(device, code, now)
    if step is None:
        raise InvalidInput("This is not the code that the app shows now.", code="invalid_code", param="code")
    with transaction.atomic():
        pending = TotpDevice.objects.filter(pk=device.pk, confirmed_at=None)
        if not pending.update(confirmed_at=now, last_step=step):
            raise Conflict("Two-factor sign-in was set up anew meanwhile.", code="two_factor_not_begun")
        codes = _replace_codes(user)
        audit.record("two_factor.enabled", by=by, target=user)
    return codes


def disable(*, user: User, by: Caller | User | None) -> None:
    """Switch two-factor sign-in off; `Conflict` if it is not on. The secret and the recovery codes are deleted.

    `by` is None for who works on the server itself.
    """
    with transaction.atomic():
        deleted, _by_model = TotpDevice.objects.filter(user=user, confirmed_at__isnull=False).delete()
        if not deleted:
            raise Conflict("Two-factor sign-in is not on.", code="two_factor_off")
        RecoveryCode.objects.filter(user=user).delete()
        audit.record("two_factor.disabled", by=by, target=user)


def new_recovery_codes(*, user: User, by: Caller | User) -> list[str]:
    """Ten new recovery codes, seen only here, in place of all that there were; `Conflict` if there is no app."""
    with transaction.atomic():
        if not TotpDevice.objects.select_for_update().filter(user=user, confirmed_at__isnull=False).first():
            raise Conflict("Two-factor sign-in is not on.", code="two_factor_off")
        codes = _replace_codes(user)
        audit.record("two_factor.recovery_codes_made", by=by, target=user, count=len(codes))
    return codes


def _replace_codes(user: User) -> list[str]:
    RecoveryCode.objects.filter(user=user).delete()
    codes = ["".join(secrets.choice(ALPHABET) for _ in range(16)) for _ in range(RECOVERY_CODES)]
    RecoveryCode.objects.bulk_create(RecoveryCode(user=user, code_hash=_hash(code)) for code in codes)
    return ["-".join(re.findall("....", code)) for code in codes]


# Verifying


def verify(*, user: User, code: str, ip: str | None = None, user_agent: str = "") -> Proof:
    """Take a code of the app or a recovery code, each of them once.

    `NotAuthenticated` if it is wrong or was used before, `TooManyAttempts` if too many were wrong. Must not be called
    inside a transaction: the count of wrong codes would go with it.
    """
    now = timezone.now()
    with transaction.atomic(durable=True):
        # Every attempt counts as a wrong one first, so that attempts at the same time cannot pass the limit together.
        device = TotpDevice.objects.filter(user=user, confirmed_at__isnull=False)
        counted = device.filter(_may_try(now)).update(failures=F("failures") + 1, failed_at=now)
        proof = _proof(user, code, now) if counted else None
        if proof:
            device.update(failures=0, failed_at=None)
        if proof is Proof.RECOVERY_CODE:
            left = codes_left(user)
            audit.record("two_factor.recovery_code_used", by=user, target=user, ip=ip, user_agent=user_agent, left=left)
        if counted and not proof:
            failure = AuditEvent.Status.FAILURE
            audit.record("two_factor.code_refused", by=user, target=user, status=failure, ip=ip, user_agent=user_agent)
    if proof:
        return proof
    if not counted and (seconds := _seconds_to_wait(user, now)):
        raise TooManyAttempts(retry_after=seconds)
    raise NotAuthenticated("The code is wrong, or was used before.", code="invalid_code")


def _proof(user: User, code: str, now: datetime) -> Proof | None:
    """What `code` shows, which it then never does again; None if it is wrong."""
    device = TotpDevice.objects.get(user=user)
    step = _step_of(device, code, now)
    if step is not None:
        used = TotpDevice.objects.filter(pk=device.pk, last_step__lt=step).update(last_step=step)
        return Proof.APP if used else None
    letters = "".join(code.split()).replace("-", "").lower().translate(MISREAD)
    if not RECOVERY_CODE.fullmatch(letters):
        return None
    unused = RecoveryCode.objects.filter(user=user, code_hash=_hash(letters), used_at=None)
    return Proof.RECOVERY_CODE if unused.update(used_at=now) else None


def _step_of(device: TotpDevice, code: str, now: datetime) -> int | None:
    """The step of time whose code this is, as far as clocks may differ; None if it is that of none."""
    digits = "".join(code.split())
    if not APP_CODE.fullmatch(digits):
        return None
    totp = TOTP(bytes.fromhex(device.secret))
    totp.time = now.timestamp()
    found = None
    for drift in STEPS:
        totp.drift = drift
        if hmac.compare_digest(f"{totp.token():06d}", digits):
            found = int(totp.t())
    return found


def _may_try(now: datetime) -> Q:
    allowed = Q(failures__lt=FREE_FAILURES)
    for failures, seconds in enumerate(WAITS, start=FREE_FAILURES):
        allowed |= Q(failures=failures, failed_at__lte=now - timedelta(seconds=seconds))
    return allowed | Q(failures__gte=FREE_FAILURES + len(WAITS), failed_at__lte=now - timedelta(seconds=WAITS[-1]))


def _seconds_to_wait(user: User, now: datetime) -> int:
    device = TotpDevice.objects.filter(user=user, failures__gte=FREE_FAILURES, failed_at__isnull=False).first()
    if device is None or device.failed_at is None:
        return 0
    wait = WAITS[min(device.failures - FREE_FAILURES, len(WAITS) - 1)]
    return max(1, int((device.failed_at - now).total_seconds()) + wait)


def _hash(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()
