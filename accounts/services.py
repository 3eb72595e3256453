"""Everything that writes accounts."""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib.auth import password_validation
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts import audit
from accounts.caller import KEY_MARK, Caller, drop_snapshots, hash_key
from accounts.exceptions import Conflict, InvalidInput, NotFound
from accounts.models import ApiKey, User
from accounts.scopes import default_scopes

EDITABLE = frozenset({"email", "full_name", "username", "preferred_model", "metadata"})
RIGHTS = frozenset({"is_verified", "is_staff", "is_superuser"})


def register_user(
    *,
    email: str,
    password: str,
    full_name: str = "",
    by: Caller | User | None = None,
    ip: str | None = None,
    **flags: bool,
) -> User:
    """Create a user; `Conflict` if the address is taken, `InvalidInput` if the password is too weak.

    `flags` are `is_staff`, `is_superuser` and `is_verified`.
    """
    email = email.strip().lower()
    check_password_strength(password, User(email=email, full_name=full_name))
    try:
        with transaction.atomic():
            user = User.objects.create_user(email, password, full_name=full_name, **flags)
            audit.record("user.registered", by=by or user, target=user, ip=ip)
    except IntegrityError:
        raise Conflict("This e-mail address is taken.", code="email_taken", param="email") from None
    return user


def check_password_strength(password: str, user: User) -> None:
    try:
        password_validation.validate_password(password, user)
    except ValidationError as error:
        raise InvalidInput(" ".join(error.messages), code="weak_password", param="password") from None


def update_user(*, user_id: UUID, by: Caller | User, **changes: Any) -> User:
    """Change a user's own fields (`EDITABLE`); `Conflict` if an address or user name is taken."""
    if unknown := changes.keys() - EDITABLE:
        raise InvalidInput(f"{', '.join(sorted(unknown))} cannot be changed.", param=min(unknown))
    if "username" in changes:
        # Any number of users may have none, and an empty one would be unique.
        changes["username"] = changes["username"] or None
    try:
        with transaction.atomic():
            user = _locked(user_id)
            if "email" in changes:
                changes["email"] = changes["email"].strip().lower()
                user.is_verified = user.is_verified and changes["email"] == user.email
            for name, value in changes.items():
                setattr(user, name, value)
            user.save()
            drop_snapshots(user.pk)
            audit.record("user.updated", by=by, target=user, fields=sorted(changes))
    except IntegrityError as error:
        field = "username" if "username" in str(error) else "email"
        raise Conflict(f"This {field} is taken.", code=f"{field}_taken", param=field) from None
    return user


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


def set_password(*, user_id: UUID, password: str, by: Caller | User) -> None:
    """Give a user a new password, which ends their sessions in the admin; `InvalidInput` if it is too weak."""
    with transaction.atomic():
        user = User.objects.select_for_update(no_key=True).get(pk=user_id)
        check_password_strength(password, user)
        user.set_password(password)
        user.password_changed_at = timezone.now()
        user.save(update_fields=["password", "password_changed_at", "updated_at"])
        drop_snapshots(user_id)
        audit.record("user.password_changed", by=by, target=user)


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
    *, user_id: UUID, name: str, by: Caller | User, scopes: list[str] | None = None, expires_at: datetime | None = None
) -> tuple[ApiKey, str]:
    """Make a key and return its row and its text; the text can never be had again."""
    if not name.strip():
        raise InvalidInput("A key needs a name.", code="required", param="name")
    if expires_at is not None and expires_at <= timezone.now():
        raise InvalidInput("The expiry lies in the past.", param="expires_at")
    prefix = secrets.token_hex(6)
    raw = f"{KEY_MARK}{prefix}_{secrets.token_urlsafe(32).replace('-', 'x').replace('_', 'y')}"
    with transaction.atomic():
        key = ApiKey.objects.create(
            user_id=user_id,
            name=name.strip(),
            prefix=prefix,
            key_hash=hash_key(raw),
            scopes=scopes or default_scopes(),
            expires_at=expires_at,
        )
        audit.record("api_key.created", by=by, target=key)
    return key, raw


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
