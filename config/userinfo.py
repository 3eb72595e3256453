"""Everything about one user that helps to help them, without anything that is secret. Reads, and changes nothing."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.utils import timezone

from accounts.exceptions import NotFound
from accounts.models import ChannelIdentity, User
from inference.models import Request
from quotas.models import Quota, Subscription

LATEST_REQUESTS = 10


def find_user(name: str) -> User:
    """The user with an e-mail address, an id, or an identity `channel:id`; `NotFound` if there is none."""
    name = name.strip()
    try:
        found = User.objects.filter(pk=UUID(name)).first()
    except ValueError:
        found = _of_channel(name) or User.objects.filter(email=name.lower()).first()
    if found is None:
        raise NotFound(f"There is no user {name}. It must be an e-mail address, an id, or channel:id.")
    return found


def user_info(user: User) -> dict[str, Any]:
    return {
        "account": _account(user),
        "plan": _plan(user),
        "quotas": [_quota(quota) for quota in Quota.objects.filter(user=user)],
        "keys": list(
            user.api_keys.values("prefix", "name", "scopes", "is_active", "expires_at", "last_used_at", "created_at")
        ),
        "sessions": list(
            user.sessions.live().values("id", "device", "ip", "user_agent", "last_seen_at", "expires_at", "created_at")
        ),
        "channels": [
            {"channel": str(identity), "username": identity.username, "created_at": identity.created_at}
            for identity in user.channel_identities.all()
        ],
        "requests": list(
            Request.objects.filter(user=user).values(
                *("id", "created_at", "request_type", "model", "status", "error_code"),
                *("input_tokens", "output_tokens", "cost", "processing_time"),
            )[:LATEST_REQUESTS]
        ),
    }


def _of_channel(name: str) -> User | None:
    channel_type, _, channel_user_id = name.partition(":")
    identities = ChannelIdentity.objects.filter(channel_type=channel_type, channel_user_id=channel_user_id)
    identity = identities.select_related("user").first()
    return identity.user if identity else None


def _account(user: User) -> dict[str, Any]:
    fields = (
        *("id", "email", "full_name", "username", "is_active", "is_verified", "is_staff", "is_superuser"),
        *("preferred_model", "created_at", "last_login", "password_changed_at", "erased_at"),
    )
    return {name: getattr(user, name) for name in fields} | {
        "merged_into": user.merged_into_id,
        "roles": sorted(user.groups.values_list("name", flat=True)),
    }


def _plan(user: User) -> dict[str, Any] | None:
    subscription = Subscription.objects.live().filter(user=user).select_related("plan").first()
    if subscription is None:
        return None
    return {
        "slug": subscription.plan.slug,
        "name": subscription.plan.name,
        "status": subscription.status,
        "current_period_end": subscription.current_period_end,
    }


def _quota(quota: Quota) -> dict[str, Any]:
    """As it is stored: a period that is over begins anew only when the user calls, or the worker comes by."""
    return {
        "meter": str(quota.meter),
        "period": quota.period,
        "limit": quota.limit,
        "used": quota.current_usage,
        "held": quota.held,
        "granted": quota.granted,
        "reset_date": quota.reset_date,
        "is_over": quota.reset_date is not None and quota.reset_date <= timezone.now(),
    }
