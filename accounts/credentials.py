"""From a key, a session's token, or the word of a key that acts for others, to the caller."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.utils import timezone

from accounts import people, snapshots
from accounts.caller import Caller
from accounts.exceptions import NotAllowed, NotAuthenticated
from accounts.models import ApiKey, BlacklistedToken, Session, User
from accounts.scopes import Scope

KEY_MARK = "msk_"


def hash_key(raw: str) -> str:
    """SHA-256 in hex. A key holds 256 random bits, so a slow hash would protect nothing."""
    return hashlib.sha256(raw.encode()).hexdigest()


def caller_for_key(
    raw: str, *, on_behalf_of: str = "", ip: str | None = None, user_agent: str = "", read: snapshots.Read | None = None
) -> Caller:
    """The caller behind an API key, or with `on_behalf_of` the person whom the key acts for.

    `read` asks Redis, instead of `snapshots.read_values`.

    `NotAuthenticated` if the key is malformed, unknown, expired or revoked. With `on_behalf_of` also `NotAllowed` if
    the key may not act for others or the person may not be acted for, and what `people.named` raises.
    """
    prefix, _, secret = raw.removeprefix(KEY_MARK).partition("_")
    if not raw.startswith(KEY_MARK) or not prefix.isalnum() or not secret or len(raw) > 100 or not raw.isascii():
        raise NotAuthenticated
    names = [snapshots.of_key(prefix), *([snapshots.of_person(on_behalf_of)] if on_behalf_of else [])]
    found, *others = snapshots.read(*names, by=read)
    if found is None:
        found = _load_key(prefix, raw)
    if found is None or not hmac.compare_digest(found["hash"], hash_key(raw)):
        raise NotAuthenticated
    if found["expires_at"] and found["expires_at"] <= datetime.now(UTC).timestamp():
        raise NotAuthenticated("This API key has expired.", code="expired_api_key")
    caller = _caller(found, ip=ip, user_agent=user_agent)
    caller = replace(caller, api_key_id=UUID(str(found["api_key_id"])), scopes=frozenset(found["scopes"]))
    return _acting_for(caller, on_behalf_of, others[0]) if on_behalf_of else caller


def caller_for_session(
    *,
    session_id: UUID,
    user_id: UUID,
    token_id: str,
    ip: str | None = None,
    user_agent: str = "",
    read: snapshots.Read | None = None,
) -> Caller:
    """The caller behind an access token of a session. `read` asks Redis, as for a key.

    `NotAuthenticated` if the session has ended, the token is blacklisted, or the user is gone or not active.
    """
    found = snapshots.read_session(session_id, user_id, by=read) or _load_session(session_id, user_id)
    if found is None or token_id in found["blacklisted"]:
        raise NotAuthenticated("The session has ended. Sign in again.", code="session_ended")
    caller = _caller(found, ip=ip, user_agent=user_agent)
    return replace(caller, session_id=session_id, token_id=token_id)


def _acting_for(key: Caller, name: str, found: dict[str, Any] | None) -> Caller:
    if not key.has_scope(Scope.ACT_AS):
        raise NotAllowed("X-On-Behalf-Of needs an API key with the scope act-as.", code="scope_required")
    if found is None:
        person = people.named(name, by=key)
        generation = snapshots.generation_of(person.pk)
        person.refresh_from_db()
        found = _user_fields(person) | {"is_active": person.is_active}
        snapshots.store(snapshots.of_person(name), found, generation=generation)
    if not found["is_active"]:
        raise NotAllowed("This person's account is not active.", code="user_inactive", param="X-On-Behalf-Of")
    if found["is_staff"]:
        raise NotAllowed("Nobody can act as a member of staff.", code="user_is_staff", param="X-On-Behalf-Of")
    person_caller = _caller(found, ip=key.ip, user_agent=key.user_agent)
    channel, is_channel, _id = name.partition(":")
    return replace(
        person_caller,
        api_key_id=key.api_key_id,
        scopes=key.scopes,
        acted_by=key.user_id,
        channel=channel if is_channel else key.channel,
    )


def _load_key(prefix: str, raw: str) -> dict[str, Any] | None:
    """What a snapshot of the key's text with this prefix says; kept, and the use noted, if `raw` is that text."""
    owner = ApiKey.objects.with_prefix(prefix).values_list("user_id", flat=True).first()
    if owner is None:
        return None
    generation = snapshots.generation_of(owner)
    key = ApiKey.objects.usable().with_prefix(prefix).select_related("user").first()
    if key is None:
        return None
    is_present = key.prefix == prefix
    ends = [at.timestamp() for at in (key.expires_at, None if is_present else key.previous_expires_at) if at]
    found = _user_fields(key.user) | {
        "hash": key.key_hash if is_present else key.previous_key_hash,
        "api_key_id": key.id,
        "scopes": key.scopes,
        "expires_at": min(ends, default=None),
    }
    has_ended = found["expires_at"] is not None and found["expires_at"] <= timezone.now().timestamp()
    if hmac.compare_digest(found["hash"], hash_key(raw)) and not has_ended:
        # Once for each snapshot, so about once a minute for a busy key, and not at every call.
        snapshots.store(snapshots.of_key(prefix), found, generation=generation)
        ApiKey.objects.filter(pk=key.pk).update(last_used_at=timezone.now())
    return found


def _load_session(session_id: UUID, user_id: UUID) -> dict[str, Any] | None:
    generation = snapshots.generation_of(user_id)
    now = timezone.now()
    sessions = Session.objects.live(now).filter(pk=session_id, user_id=user_id, user__is_active=True)
    session = sessions.select_related("user").first()
    if session is None:
        return None
    blacklisted = BlacklistedToken.objects.filter(session_id=session_id, expires_at__gt=now, token_type="access")  # noqa: S106
    found = _user_fields(session.user) | {"blacklisted": list(blacklisted.values_list("jti", flat=True))}
    snapshots.store(snapshots.of_session(session_id), found, generation=generation)
    Session.objects.filter(pk=session_id).update(last_seen_at=now)
    return found


def _user_fields(user: User) -> dict[str, Any]:
    has_permissions = user.is_staff and not user.is_superuser
    return {
        "user_id": user.id,
        "email": user.email or "",
        "is_staff": user.is_staff,
        "is_superuser": user.is_superuser,
        "permissions": sorted(user.get_all_permissions()) if has_permissions else [],
        "preferred_model": user.preferred_model,
    }


def _caller(found: dict[str, Any], *, ip: str | None, user_agent: str) -> Caller:
    return Caller(
        user_id=UUID(str(found["user_id"])),
        email=found["email"],
        is_staff=found["is_staff"],
        is_superuser=found["is_superuser"],
        permissions=frozenset(found["permissions"]),
        preferred_model=found["preferred_model"],
        ip=ip,
        user_agent=user_agent,
    )
