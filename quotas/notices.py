"""What users are told by mail of their quotas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from django.conf import settings

from accounts.credentials import KEY_MARK
from accounts.models import ApiKey, User
from quotas.meters import Period, Resource, Unit
from quotas.models import Event

TEMPLATE = "quota_reached"
TYPES = (Event.Type.SOFT_LIMIT_REACHED, Event.Type.LIMIT_REACHED)
# A mail a minute helps nobody.
TOO_SHORT = (Period.MINUTE, Period.HOUR)


@dataclass(frozen=True, slots=True)
class Notice:
    """A mail: to whom, and what is filled into its template."""

    to: str
    context: dict[str, Any]


def is_mailed(event: Event) -> bool:
    return event.type in TYPES and event.payload["period"] not in TOO_SHORT


def notice_of(*, event_id: UUID) -> Notice | None:
    """The mail about a quota; None if its user has no verified address, does not want it, or knows worse by now."""
    event = Event.objects.select_related("user__preferences").filter(pk=event_id).first()
    if event is None or not event.user or not _wants_mail(event.user) or _is_outdone(event):
        return None
    said = event.payload
    context = {
        "site": urlsplit(settings.PUBLIC_URL).netloc,
        "is_limit": event.type == Event.Type.LIMIT_REACHED,
        "is_used_up": said["usage"] >= said["limit"],
        "percent": said["threshold"],
        "resource": Resource(said["resource"]).label,
        "unit": said["unit"],
        "period": "" if said["period"] == Period.NONE else said["period"],
        "used": _amount(said["usage"], said["unit"]),
        "limit": _amount(said["limit"], said["unit"]),
        "left": _amount(max(said["limit"] - said["usage"] - said["held"], 0), said["unit"]),
        "held": _amount(said["held"], said["unit"]) if said["held"] else "",
        "overage_allowed": said["overage_allowed"],
        "resets": f"{event.reset_date:%Y-%m-%d %H:%M} UTC" if event.reset_date else "",
        "key": _key_name(said["api_key_id"]),
    }
    return Notice(str(event.user.email), context)


def _wants_mail(user: User) -> bool:
    preferences = getattr(user, "preferences", None)
    reachable = user.is_active and user.is_verified and user.email is not None
    return reachable and (preferences is None or preferences.email_notifications)


def _is_outdone(event: Event) -> bool:
    """Whether the limit is reached by now that this event only says is near."""
    if event.type != Event.Type.SOFT_LIMIT_REACHED or event.quota_id is None:
        return False
    reached = Event.objects.filter(type=Event.Type.LIMIT_REACHED, quota_id=event.quota_id)
    return reached.filter(reset_date=event.reset_date).exists()


def _amount(value: int, unit: str) -> str:
    return f"${value / 1_000_000:,.2f}" if unit == Unit.COST else f"{value:,}"


def _key_name(api_key_id: str | None) -> str:
    """How the owner recognises the key. Its name may be anything, and is not repeated in our name."""
    if api_key_id is None:
        return ""
    prefix = ApiKey.objects.filter(pk=api_key_id).values_list("prefix", flat=True).first()
    return f"{KEY_MARK}{prefix}_…" if prefix else f"with the id {api_key_id}"
