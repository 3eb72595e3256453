"""Who is calling, as one immutable value, and its snapshot in Redis.

A warm call is authenticated from Redis alone: no SQL. What the snapshot says is at most AUTH_SNAPSHOT_SECONDS old,
and any change drops it at once. A process that read the old row just before the change must not write it back after
the drop; so a snapshot is stored only if the user's generation, read before the row, has not moved since.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, cast
from uuid import UUID

import orjson
import redis
import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from redis.backoff import NoBackoff
from redis.retry import Retry

from accounts.exceptions import NotAuthenticated
from accounts.models import ApiKey, User

log = structlog.get_logger(__name__)

KEY_MARK = "msk_"

STORE_IF_UNCHANGED = """
if (redis.call('GET', KEYS[2]) or '') == ARGV[1] then
    redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
end
"""


@dataclass(frozen=True, slots=True)
class Caller:
    """The one value that authentication makes and everything else receives.

    A key acts for its owner, or with `act-as` for somebody else: then `user_id` is that person, and `acted_by` the
    key's owner. `email` is empty for a person who is known from a channel alone.
    """

    user_id: UUID
    email: str = ""
    is_staff: bool = False
    is_superuser: bool = False
    permissions: frozenset[str] = frozenset()
    preferred_model: str = ""
    api_key_id: UUID | None = None
    scopes: frozenset[str] = frozenset()
    acted_by: UUID | None = None
    session_id: UUID | None = None
    token_id: str = ""
    channel: str = "api"
    ip: str | None = None
    user_agent: str = ""

    is_authenticated = True
    is_active = True

    @property
    def pk(self) -> UUID:
        return self.user_id

    def has_scope(self, scope: str) -> bool:
        """A person's own token is good for everything, a key for what it names."""
        return self.api_key_id is None or scope in self.scopes

    def has_perm(self, permission: str) -> bool:
        """Whether this is staff with a permission of Django's, `app.codename`; never while acting for somebody else."""
        return self.is_staff and self.acted_by is None and (self.is_superuser or permission in self.permissions)


@lru_cache(maxsize=1)
def redis_client() -> redis.Redis:
    """The process's synchronous Redis client, for what is not Django's cache."""
    # PostgreSQL answers when Redis does not: retrying with pauses would only hold the caller up.
    retry = Retry(NoBackoff(), 1)
    return redis.Redis.from_url(settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=1, retry=retry)


def hash_key(raw: str) -> str:
    """SHA-256 in hex. A key holds 256 random bits, so a slow hash would protect nothing."""
    return hashlib.sha256(raw.encode()).hexdigest()


def caller_for_key(raw: str, *, ip: str | None = None) -> Caller:
    """The caller behind an API key; `NotAuthenticated` if it is malformed, unknown, expired or revoked."""
    prefix, _, secret = raw.removeprefix(KEY_MARK).partition("_")
    if not raw.startswith(KEY_MARK) or not prefix.isalnum() or not secret or len(raw) > 100 or not raw.isascii():
        raise NotAuthenticated
    found, generation = _read(_key_name(prefix)), None
    if found is None:
        found, generation = _load_key(prefix)
    if found is None or not hmac.compare_digest(found["hash"], hash_key(raw)):
        raise NotAuthenticated
    if generation is not None:
        # Once for each snapshot, so about once a minute for a busy key, and not at every call.
        _store(_key_name(prefix), found, generation=generation)
        ApiKey.objects.filter(pk=found["api_key_id"]).update(last_used_at=timezone.now())
    if found["expires_at"] and found["expires_at"] <= datetime.now(UTC).timestamp():
        raise NotAuthenticated("This API key has expired.", code="expired_api_key")
    return _caller(found, ip=ip)


def caller_for_user(user_id: UUID, *, ip: str | None = None) -> Caller:
    """The caller behind a token of `user_id`; `NotAuthenticated` if the user is gone or not active."""
    found = _read(_user_name(user_id)) or _load_user(user_id)
    if found is None:
        raise NotAuthenticated(code="invalid_token")
    return _caller(found, ip=ip)


def drop_snapshots(user_id: UUID, *, deleted_prefixes: list[str] | None = None) -> None:
    """Once the running transaction commits, forget what Redis says about a user and all keys of theirs.

    `deleted_prefixes` names keys whose rows the transaction removes, and which could not be listed afterwards.
    """

    def drop() -> None:
        prefixes = [*ApiKey.objects.filter(user_id=user_id).values_list("prefix", flat=True), *(deleted_prefixes or [])]
        generation = _generation_name(user_id)
        pipe = redis_client().pipeline()
        pipe.incr(generation)
        pipe.expire(generation, 24 * 3600)
        pipe.delete(_user_name(user_id), *map(_key_name, prefixes))
        try:
            pipe.execute()
        except redis.RedisError:
            # Nothing can be read from it either; what survives in it expires in AUTH_SNAPSHOT_SECONDS.
            log.warning("auth_snapshot_not_dropped", user_id=str(user_id))

    transaction.on_commit(drop)


def _key_name(prefix: str) -> str:
    return f"auth:key:{prefix}"


def _user_name(user_id: UUID) -> str:
    return f"auth:user:{user_id}"


def _generation_name(user_id: UUID) -> str:
    return f"auth:generation:{user_id}"


def _read(name: str) -> dict[str, Any] | None:
    try:
        value = cast("bytes | None", redis_client().get(name))
    except redis.RedisError:
        return None
    return orjson.loads(value) if value else None


def _store(name: str, found: dict[str, Any], *, generation: bytes) -> None:
    with contextlib.suppress(redis.RedisError):
        redis_client().eval(
            STORE_IF_UNCHANGED,
            2,
            name,
            _generation_name(found["user_id"]),
            generation,
            orjson.dumps(found),
            settings.AUTH_SNAPSHOT_SECONDS,
        )


def _generation(user_id: UUID) -> bytes:
    try:
        return cast("bytes | None", redis_client().get(_generation_name(user_id))) or b""
    except redis.RedisError:
        return b""


def _load_key(prefix: str) -> tuple[dict[str, Any] | None, bytes | None]:
    """What a snapshot of the key would say, and its owner's generation, read before."""
    owner = ApiKey.objects.filter(prefix=prefix).values_list("user_id", flat=True).first()
    if owner is None:
        return None, None
    generation = _generation(owner)
    key = ApiKey.objects.usable().filter(prefix=prefix).select_related("user").first()
    if key is None:
        return None, None
    found = _user_fields(key.user) | {
        "hash": key.key_hash,
        "api_key_id": key.id,
        "scopes": key.scopes,
        "expires_at": key.expires_at.timestamp() if key.expires_at else None,
    }
    return found, generation


def _load_user(user_id: UUID) -> dict[str, Any] | None:
    generation = _generation(user_id)
    user = User.objects.filter(pk=user_id, is_active=True).first()
    if user is None:
        return None
    found = _user_fields(user)
    _store(_user_name(user_id), found, generation=generation)
    return found


def _user_fields(user: User) -> dict[str, Any]:
    return {"user_id": user.id, "email": user.email or "", "is_staff": user.is_staff}


def _caller(found: dict[str, Any], *, ip: str | None) -> Caller:
    key_id = found.get("api_key_id")
    return Caller(
        user_id=UUID(str(found["user_id"])),
        email=found["email"],
        is_staff=found["is_staff"],
        api_key_id=UUID(str(key_id)) if key_id else None,
        scopes=frozenset(found.get("scopes", ())),
        ip=ip,
    )
