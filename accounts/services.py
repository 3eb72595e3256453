"""Everything that writes accounts."""

from __future__ import annotations

import re
import secrets
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import available_timezones

import orjson
from django.contrib.auth import password_validation
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts import audit, codes, sessions
from accounts.caller import Caller
from accounts.credentials import KEY_MARK, hash_key
from accounts.exceptions import Conflict, InvalidInput, NotAllowed, NotFound
from accounts.models import ApiKey, OneTimeCode, Session, User, UserPreference
from accounts.roles import Role
from accounts.scopes import Scope, default_scopes
from accounts.snapshots import drop_snapshots, of_key

EDITABLE = frozenset({"email", "full_name", "username", "preferred_model", "metadata"})
RIGHTS = frozenset({"is_verified", "is_staff", "is_superuser"})
MAX_OVERLAP = timedelta(days=30)
EMAIL_LENGTH = 254
SETTINGS_BYTES = METADATA_BYTES = 16 * 1024
LANGUAGE_TAG = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,4}")


def register_user(
    *,
    email: str,
    password: str,
    full_name: str = "",
    by: Caller | User | None = None,
    ip: str | None = None,
    user_agent: str = "",
    role: Role | None = None,
    **flags: bool,
) -> User:
    """Create a user; `Conflict` if the address is taken, `InvalidInput` if the password is too weak.

    `flags` are `is_staff`, `is_superuser` and `is_verified`. A `role` makes the user staff, in the role's group.
    """
    email = normalized_email(email)
    check_password_strength(password, User(email=email, full_name=full_name))
    try:
        with transaction.atomic():
            user = User.objects.create_user(email, password, full_name=full_name, **flags)
            audit.record("user.registered", by=by or user, target=user, ip=ip, user_agent=user_agent)
            if role is not None:
                _give_role(user, role, by=by or user)
    except IntegrityError:
        raise Conflict("This e-mail address is taken.", code="email_taken", param="email") from None
    return user


def normalized_email(email: str) -> str:
    """The address in the one way it is kept; `InvalidInput` unless it is one.

    Letters beyond ASCII are refused: with them, two addresses that look the same may be two people's.
    """
    # Looked at before it becomes lower case, which makes ASCII of some letters that are not.
    is_ascii = email.isascii()
    email = email.strip().lower()
    try:
        validate_email(email)
    except ValidationError:
        raise InvalidInput("This is not an e-mail address.", code="invalid_email", param="email") from None
    if not is_ascii or len(email) > EMAIL_LENGTH:
        raise InvalidInput(
            f"An e-mail address has at most {EMAIL_LENGTH} characters, all of them ASCII; a domain with other letters "
            "is written in its xn-- form.",
            code="invalid_email",
            param="email",
        )
    return email


def _give_role(user: User, role: Role, *, by: Caller | User) -> None:
    group = Group.objects.filter(name=role).first()
    if group is None:
        raise NotFound(f"There is no group {role}: the migrations make it.")
    user.is_staff = True
    user.save(update_fields=["is_staff", "updated_at"])
    user.groups.add(group)
    audit.record("user.groups_changed", by=by, target=user, groups=[str(role)])


def check_password_strength(password: str, user: User, *, param: str = "password") -> None:
    """`InvalidInput` about the field `param` if the password is too weak."""
    try:
        password_validation.validate_password(password, user)
    except ValidationError as error:
        raise InvalidInput(" ".join(error.messages), code="weak_password", param=param) from None


def update_user(*, user_id: UUID, by: Caller | User, **changes: Any) -> User:
    """Change a user's own fields (`EDITABLE`); `Conflict` if an address or user name is taken."""
    if unknown := changes.keys() - EDITABLE:
        raise InvalidInput(f"{', '.join(sorted(unknown))} cannot be changed.", param=min(unknown))
    if len(orjson.dumps(changes.get("metadata", {}))) > METADATA_BYTES:
        raise InvalidInput(f"The metadata take more than {METADATA_BYTES} bytes.", param="metadata", code="too_long")
    if "username" in changes:
        # Any number of users may have none, and an empty one would be unique.
        changes["username"] = changes["username"] or None
    try:
        with transaction.atomic():
            user = _locked(user_id)
            if "email" in changes:
                changes["email"] = normalized_email(changes["email"]) if changes["email"] else None
                if changes["email"] != user.email:
                    _disown_address(user)
            for name, value in changes.items():
                setattr(user, name, value)
            user.save()
            drop_snapshots(user.pk)
            audit.record("user.updated", by=by, target=user, fields=sorted(changes))
    except IntegrityError as error:
        if "username" in str(error):
            raise Conflict("This user name is taken.", code="username_taken", param="username") from None
        raise Conflict("This e-mail address is taken.", code="email_taken", param="email") from None
    return user


def _disown_address(user: User) -> None:
    """What was proven of the address that a user gives up, and what was sent there, is worth nothing any more."""
    user.is_verified = False
    for purpose in (OneTimeCode.Purpose.RESET_PASSWORD, OneTimeCode.Purpose.VERIFY_EMAIL):
        codes.void(user_id=user.pk, purpose=purpose)


def administer_user(*, user_id: UUID, by: Caller | User, **changes: Any) -> None:
    """Change what operators may change: `EDITABLE`, `RIGHTS` and `is_active`; each of the three is an event of its own.

    `Conflict` and `InvalidInput` as in `update_user`.
    """
    own = {name: value for name, value in changes.items() if name not in RIGHTS and name != "is_active"}
    rights = {name: value for name, value in changes.items() if name in RIGHTS}
    with transaction.atomic():
        if own:
            update_user(user_id=user_id, by=by, **own)
        user = User.objects.select_for_update(no_key=True).get(pk=user_id)
        if rights:
            User.objects.filter(pk=user_id).update(**rights, updated_at=timezone.now())
            drop_snapshots(user_id)
            audit.record("user.rights_changed", by=by, target=user, **rights)
        if "is_active" in changes:
            set_user_active(user=user, is_active=changes["is_active"], by=by)


def set_password(
    *,
    user_id: UUID,
    password: str,
    by: Caller | User,
    keep_session: UUID | None = None,
    revoke_api_keys: bool = False,
    param: str = "password",
) -> None:
    """Give a user a new password, which ends all of their sessions but `keep_session`, also those in the admin.

    With `revoke_api_keys` their keys end, too. `InvalidInput` if the password is too weak.
    """
    with transaction.atomic():
        user = User.objects.select_for_update(no_key=True).get(pk=user_id)
        check_password_strength(password, user, param=param)
        user.set_password(password)
        user.password_changed_at = timezone.now()
        user.save(update_fields=["password", "password_changed_at", "updated_at"])
        ended = sessions.revoke_sessions(
            user_id=user_id, reason=Session.Reason.PASSWORD_CHANGED, by=by, keep=keep_session
        )
        keys = ApiKey.objects.filter(user_id=user_id, is_active=True).update(is_active=False) if revoke_api_keys else 0
        codes.void(user_id=user_id, purpose=OneTimeCode.Purpose.RESET_PASSWORD)
        drop_snapshots(user_id)
        audit.record("user.password_changed", by=by, target=user, sessions_ended=ended, keys_revoked=keys)


def set_user_active(*, user: User, is_active: bool, by: Caller | User) -> None:
    """Let a user in or shut them out, with all of their keys and tokens, from the next request on.

    `Conflict` if the user was merged into another, or erased: both is for good.
    """
    with transaction.atomic():
        lasting = User.objects.filter(pk=user.pk, merged_into=None, erased_at=None)
        if not lasting.update(is_active=is_active, updated_at=timezone.now()):
            raise Conflict("This user was merged into another or erased.", code="user_gone")
        drop_snapshots(user.pk)
        audit.record("user.activated" if is_active else "user.deactivated", by=by, target=user)


def _locked(user_id: UUID) -> User:
    user = User.objects.select_for_update(no_key=True).filter(pk=user_id).first()
    if user is None:
        raise NotFound("No such user.")
    return user


def create_api_key(
    *,
    user_id: UUID,
    name: str,
    by: Caller | User | None,
    scopes: list[str] | None = None,
    expires_at: datetime | None = None,
) -> tuple[ApiKey, str]:
    """Make a key and return its row and its text; the text can never be had again.

    Without `scopes` it gets `scopes.DEFAULT_SCOPES`. `by` is None for who works on the server itself. `InvalidInput`
    if a value makes no sense, `NotAllowed` if `by` may not give a scope.
    """
    if not name.strip():
        raise InvalidInput("A key needs a name.", code="required", param="name")
    if expires_at is not None and expires_at <= timezone.now():
        raise InvalidInput("The expiry lies in the past.", param="expires_at")
    scopes = default_scopes() if scopes is None else sorted(set(scopes))
    check_scopes(scopes, by=by)
    prefix, raw = _new_key_text()
    with transaction.atomic():
        key = ApiKey.objects.create(
            user_id=user_id,
            name=name.strip(),
            prefix=prefix,
            key_hash=hash_key(raw),
            scopes=scopes,
            expires_at=expires_at,
        )
        audit.record("api_key.created", by=by, target=key, scopes=scopes)
    return key, raw


def check_scopes(scopes: list[str], *, by: Caller | User | None) -> None:
    """`InvalidInput` if the scopes are none or unknown; `NotAllowed` if `by` may not give them.

    A key gives no more than it has. Acting for others is for operators to give: with it one is everybody.
    """
    if not scopes:
        raise InvalidInput("A key needs at least one scope.", code="required", param="scopes")
    if unknown := set(scopes) - set(Scope.values):
        raise InvalidInput(f"There is no scope {min(unknown)!r}.", param="scopes")
    if by is None:
        return
    check_scopes_within(scopes, by=by)
    if Scope.ACT_AS in scopes and not by.has_perm("accounts.add_apikey"):
        raise NotAllowed("Only operators can give the scope act-as.", code="permission_denied", param="scopes")


def check_scopes_within(scopes: list[str], *, by: Caller | User) -> None:
    """`NotAllowed` if `by` is a key that lacks one of the scopes: it must not come by another that has it."""
    if isinstance(by, Caller) and (more := [scope for scope in scopes if not by.has_scope(scope)]):
        raise NotAllowed(f"A key cannot give the scope {more[0]}, which it does not have.", code="scope_required")


def rotate_api_key(
    *, key_id: UUID, by: Caller | User, user_id: UUID | None = None, overlap: timedelta = timedelta(hours=1)
) -> tuple[ApiKey, str]:
    """Give a key a new text; the one before stays good for `overlap`, and one before that ends now.

    Name, scopes, budgets and history stay. With `user_id`, only if the key is that user's, else `NotFound`;
    `Conflict` if it was revoked or has expired.
    """
    if not timedelta(0) <= overlap <= MAX_OVERLAP:
        raise InvalidInput(
            f"The overlap must be 0 to {int(MAX_OVERLAP.total_seconds())} seconds.", param="overlap_seconds"
        )
    prefix, raw = _new_key_text()
    with transaction.atomic():
        keys = ApiKey.objects.select_for_update(no_key=True).filter(pk=key_id)
        key = (keys if user_id is None else keys.filter(user_id=user_id)).first()
        if key is None:
            raise NotFound("No such API key.")
        now = timezone.now()
        if not key.is_active or (key.expires_at is not None and key.expires_at <= now):
            raise Conflict("The key is revoked or has expired.", code="api_key_ended")
        check_scopes_within(key.scopes, by=by)
        forgotten = [of_key(old) for old in (key.previous_prefix,) if old]
        key.previous_prefix, key.previous_key_hash = key.prefix, key.key_hash
        key.previous_expires_at = now + overlap
        key.prefix, key.key_hash = prefix, hash_key(raw)
        key.save(update_fields=["prefix", "key_hash", "previous_prefix", "previous_key_hash", "previous_expires_at"])
        drop_snapshots(key.user_id, also=forgotten)
        audit.record("api_key.rotated", by=by, target=key, overlap_seconds=int(overlap.total_seconds()))
    return key, raw


def _new_key_text() -> tuple[str, str]:
    """The visible prefix of a new key, and the whole of it."""
    prefix = secrets.token_hex(6)
    return prefix, f"{KEY_MARK}{prefix}_{secrets.token_urlsafe(32).replace('-', 'x').replace('_', 'y')}"


def revoke_api_key(*, key_id: UUID, by: Caller | User, user_id: UUID | None = None) -> ApiKey:
    """Switch a key off for good; with `user_id`, only if it is that user's, else `NotFound`."""
    keys = ApiKey.objects.filter(pk=key_id)
    if user_id is not None:
        keys = keys.filter(user_id=user_id)
    with transaction.atomic():
        key = keys.first()
        if key is None:
            raise NotFound("No such API key.")
        if keys.filter(is_active=True).update(is_active=False):
            key.is_active = False
            drop_snapshots(key.user_id)
            audit.record("api_key.revoked", by=by, target=key)
    return key


def preferences_of(*, user_id: UUID) -> UserPreference:
    """A user's preferences; those of a user who never chose any are not in the database."""
    found = UserPreference.objects.select_related("user").filter(user_id=user_id).first()
    return found or UserPreference(user=User.objects.get(pk=user_id))


def update_preferences(*, user_id: UUID, by: Caller | User, **changes: Any) -> UserPreference:
    """Change a user's preferences, and `preferred_model`, which is the user's own; `InvalidInput` if senseless."""
    if "timezone" in changes and changes["timezone"] not in available_timezones():
        raise InvalidInput("There is no such time zone.", param="timezone")
    if "language" in changes and not LANGUAGE_TAG.fullmatch(changes["language"]):
        raise InvalidInput("A language is a tag such as en or pt-BR.", param="language")
    if len(orjson.dumps(changes.get("settings", {}))) > SETTINGS_BYTES:
        raise InvalidInput(f"The settings take more than {SETTINGS_BYTES} bytes.", param="settings", code="too_long")
    with transaction.atomic():
        if "preferred_model" in changes:
            update_user(user_id=user_id, by=by, preferred_model=changes.pop("preferred_model"))
        if changes:
            UserPreference.objects.update_or_create(user_id=user_id, defaults=changes)
            audit.record("user.preferences_changed", by=by, target=_locked(user_id), fields=sorted(changes))
    return preferences_of(user_id=user_id)
