"""What becomes of a user's rows when their data are exported, when two users are merged, and when a user is erased.

`accounts` is the lowest application, and yet the rows of all others must follow. So each application declares its own
in a module `belongings` with a list BELONGINGS, and `all_belongings` finds them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import Enum
from importlib import import_module
from importlib.util import find_spec
from typing import Any
from uuid import UUID

from django.apps import apps
from django.contrib.admin.models import LogEntry
from django.db.models import Case, Exists, Model, Q, QuerySet, Value, When
from django.utils import timezone

from accounts.models import (
    ApiKey,
    AuditEvent,
    ChannelIdentity,
    OneTimeCode,
    RecoveryCode,
    Session,
    TotpDevice,
    User,
    UserPreference,
)


class Erase(Enum):
    """What erasing a user does to rows that need nothing more."""

    DELETE = "delete"
    KEEP = "keep"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Rows that hang on rows of a user, such as messages on a conversation, and are exported within them."""

    name: str
    model: type[Model]
    parent: str
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Belonging:
    """What becomes of the rows of one model.

    They are exported as `section` (empty: not at all) with `fields`, of which the first is `id`, shaped by `row`;
    `page` rows are read at a time, `is_single` says that there is one at most. `lock` locks rows of the named users
    before any row is moved or erased, in the order in which the metered road locks them. `merge` moves what is the
    first user's to the second; without it, all rows just get another user.
    """

    model: type[Model]
    erase: Erase | Callable[[UUID], None]
    section: str = ""
    fields: tuple[str, ...] = ()
    rows: Callable[[UUID], QuerySet[Any]] | None = None
    row: Callable[[dict[str, Any]], dict[str, Any]] = dict
    part: Part | None = None
    page: int = 500
    is_single: bool = False
    lock: Callable[[Collection[UUID]], None] | None = None
    merge: Callable[[UUID, UUID], None] | None = None

    def rows_of(self, user_id: UUID) -> QuerySet[Any]:
        return self.rows(user_id) if self.rows else self.model._default_manager.filter(user_id=user_id)

    def move(self, source_id: UUID, target_id: UUID) -> None:
        if self.merge is not None:
            self.merge(source_id, target_id)
        else:
            self.model._default_manager.filter(user_id=source_id).update(user_id=target_id)

    def wipe(self, user_id: UUID) -> None:
        if self.erase is Erase.DELETE:
            self.rows_of(user_id).delete()
        elif callable(self.erase):
            self.erase(user_id)


def all_belongings() -> list[Belonging]:
    """Those of every installed application; of the one that stands highest first, of `accounts` last."""
    names = [f"{config.name}.belongings" for config in reversed(list(apps.get_app_configs()))]
    return [belonging for name in names if find_spec(name) for belonging in import_module(name).BELONGINGS]


def identities(user_id: UUID) -> list[UUID]:
    """The ids that have stood for a person: the user's own, and those of the users that were merged into it."""
    return list(
        User.objects.filter(Q(pk=user_id) | Q(merged_into_id=user_id)).order_by("pk").values_list("pk", flat=True)
    )


def addresses(user_id: UUID) -> list[str]:
    """The e-mail addresses that lead to a user."""
    named = User.objects.filter(Q(pk=user_id) | Q(merged_into_id=user_id)).exclude(email=None)
    return [email for email in named.values_list("email", flat=True) if email]


# How the rows of this application are exported ---------------------------------------------------------------------


def _user(user_id: UUID) -> QuerySet[Any]:
    return User.objects.filter(pk=user_id)


def events_of(user_id: UUID) -> QuerySet[AuditEvent]:
    """Events that the person caused, that speak of them, or that name their address (such as failed sign-ins)."""
    ids = identities(user_id)
    about = Q(target_type=User._meta.label_lower, target_id__in=list(map(str, ids)))
    return AuditEvent.objects.filter(Q(actor_id__in=ids) | Q(actor_email__in=addresses(user_id)) | about)


def _exported_events(user_id: UUID) -> QuerySet[Any]:
    is_own = Case(
        When(actor_id__in=identities(user_id), then=True), When(actor_id=None, then=True), default=Value(False)
    )
    return events_of(user_id).annotate(is_own=is_own)


def _event(row: dict[str, Any]) -> dict[str, Any]:
    """From where an operator has worked is the operator's affair."""
    is_own = row.pop("is_own")
    return row if is_own else row | {"ip": None, "user_agent": ""}


# How they are merged -----------------------------------------------------------------------------------------------


def _repoint_aliases(source_id: UUID, target_id: UUID) -> None:
    User.objects.filter(merged_into_id=source_id).update(merged_into_id=target_id)


def _keep_targets_preferences(source_id: UUID, target_id: UUID) -> None:
    theirs = UserPreference.objects.filter(user_id=source_id)
    if UserPreference.objects.filter(user_id=target_id).exists():
        theirs.delete()
    else:
        theirs.update(user_id=target_id)


def _revoke_sessions(source_id: UUID, target_id: UUID) -> None:
    """Their tokens speak of a user who is none any more."""
    now = timezone.now()
    theirs = Session.objects.filter(user_id=source_id)
    theirs.filter(revoked_at=None).update(revoked_at=now, revoked_reason=Session.Reason.MERGED)
    theirs.update(user_id=target_id)


def _void_codes(source_id: UUID, _target_id: UUID) -> None:
    """What was sent to the source was not meant to verify an address or reset a password of the target."""
    OneTimeCode.objects.filter(user_id=source_id).delete()


def _second_factor_follows_password(model: type[TotpDevice | RecoveryCode]) -> Callable[[UUID, UUID], None]:
    """The second factor belongs to the password: the source's moves with it, or goes."""

    def merge(source_id: UUID, target_id: UUID) -> None:
        if sign_in_moves(source_id, target_id):
            model._default_manager.filter(user_id=target_id).delete()
            model._default_manager.filter(user_id=source_id).update(user_id=target_id)
        else:
            model._default_manager.filter(user_id=source_id).delete()

    return merge


def sign_in_moves(source_id: UUID, target_id: UUID) -> bool:
    """Whether address and password of the source become the target's, which has no address."""
    with_address = User.objects.exclude(email=None)
    without = ~Exists(with_address.filter(pk=target_id))
    return with_address.filter(without, pk=source_id).exists()


# How they are erased -----------------------------------------------------------------------------------------------


def _blank_log_entries(user_id: UUID) -> None:
    """The admin's own log names what it speaks of: users by address or name, keys by their names."""
    ids = [*identities(user_id), *ApiKey.objects.filter(user_id=user_id).values_list("pk", flat=True)]
    about = Q(object_id__in=list(map(str, ids)))
    people = User.objects.filter(pk__in=ids).values_list("email", "username")
    for name in {name for names in people for name in names if name}:
        about |= Q(object_repr=name) | Q(object_repr__startswith=f"{name} ")
    LogEntry.objects.filter(about).update(object_repr="", change_message="")


def _blank_events(user_id: UUID) -> None:
    """Leave what was done; take away who from where. What an operator did keeps the operator's name."""
    ids = identities(user_id)
    about = Q(target_type=User._meta.label_lower, target_id__in=list(map(str, ids)), actor_id=None)
    own = Q(actor_id__in=ids) | Q(actor_email__in=addresses(user_id)) | about
    named = ~Q(actor_email="") | Q(ip__isnull=False) | ~Q(user_agent="")
    AuditEvent.objects.filter(own, named).update(actor_email="", ip=None, user_agent="")


BELONGINGS = [
    Belonging(
        model=UserPreference,
        section="preferences",
        is_single=True,
        fields=("id", "language", "timezone", "theme", "email_notifications", "settings", "updated_at"),
        merge=_keep_targets_preferences,
        erase=Erase.DELETE,
    ),
    Belonging(
        model=ChannelIdentity,
        section="channels",
        fields=("id", "channel_type", "channel_user_id", "username", "created_at"),
        erase=Erase.DELETE,
    ),
    Belonging(model=LogEntry, erase=_blank_log_entries),
    Belonging(
        model=ApiKey,
        section="api_keys",
        fields=("id", "name", "prefix", "scopes", "is_active", "last_used_at", "expires_at", "created_at"),
        erase=Erase.DELETE,
    ),
    Belonging(
        model=Session,
        section="sessions",
        fields=(
            *("id", "device", "ip", "user_agent", "created_at", "last_seen_at", "expires_at"),
            *("revoked_at", "revoked_reason"),
        ),
        merge=_revoke_sessions,
        erase=Erase.DELETE,
    ),
    Belonging(
        model=OneTimeCode,
        section="one_time_codes",
        fields=("id", "purpose", "email", "created_at", "expires_at", "used_at"),
        merge=_void_codes,
        erase=Erase.DELETE,
    ),
    Belonging(
        model=TotpDevice,
        section="authenticator_app",
        is_single=True,
        fields=("id", "confirmed_at", "created_at"),
        merge=_second_factor_follows_password(TotpDevice),
        erase=Erase.DELETE,
    ),
    Belonging(
        model=RecoveryCode,
        section="recovery_codes",
        fields=("id", "used_at", "created_at"),
        merge=_second_factor_follows_password(RecoveryCode),
        erase=Erase.DELETE,
    ),
    Belonging(
        model=AuditEvent,
        section="audit_events",
        fields=(
            *("id", "action", "actor_id", "target_type", "target_id", "status", "ip", "user_agent", "metadata"),
            *("created_at", "is_own"),
        ),
        rows=_exported_events,
        row=_event,
        merge=lambda _source_id, _target_id: None,
        erase=_blank_events,
    ),
    # Merging and erasing end with the user's own row: `merging.py` and `erasing.py` write it.
    Belonging(
        model=User,
        section="user",
        is_single=True,
        fields=(
            *("id", "email", "full_name", "username", "is_active", "is_verified", "is_staff", "preferred_model"),
            *("stripe_customer_id", "metadata", "created_at", "updated_at", "last_login", "password_changed_at"),
        ),
        rows=_user,
        merge=_repoint_aliases,
        erase=Erase.KEEP,
    ),
]
