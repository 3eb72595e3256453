"""Making one user of two. What becomes of the rows is declared in the `belongings` of each application."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import ParamSpec
from uuid import UUID

import structlog
from django.db import OperationalError, connection, transaction
from django.utils import timezone
from psycopg.errors import DeadlockDetected

from accounts import audit
from accounts.belongings import all_belongings, sign_in_moves
from accounts.caller import Caller
from accounts.exceptions import Conflict, NotAuthenticated, NotFound
from accounts.models import User
from accounts.snapshots import drop_snapshots

log = structlog.get_logger(__name__)

P = ParamSpec("P")

ATTEMPTS = 5

# What a target gets of the source if it has none of its own. Of the unique ones the source keeps none then.
FILLED = ("full_name", "preferred_model", "username", "stripe_customer_id")
UNIQUE = ("username", "stripe_customer_id")


def repeated_on_deadlock(work: Callable[P, None]) -> Callable[P, None]:
    """Try the whole transaction again, up to ATTEMPTS times, if PostgreSQL has ended it to resolve a deadlock."""

    @wraps(work)
    def attempt(*args: P.args, **kwargs: P.kwargs) -> None:
        for number in range(1, ATTEMPTS):
            try:
                work(*args, **kwargs)
            except OperationalError as error:
                if not isinstance(error.__cause__, DeadlockDetected):
                    raise
                log.warning("deadlock", work=work.__name__, attempt=number)
            else:
                return
        work(*args, **kwargs)

    return attempt


def hold_user(user_id: UUID) -> None:
    """Keep an active user from being merged or erased until the transaction ends.

    `NotAuthenticated` if the user is not active. The lock is the one that inserting a row of theirs takes anyway.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT is_active FROM accounts_user WHERE id = %s FOR KEY SHARE", [user_id])
        found = cursor.fetchone()
    if found is None or not found[0]:
        raise NotAuthenticated("This account is not active.", code="account_inactive")


def hold_users(user_ids: Sequence[UUID]) -> None:
    """Keep users from being merged or erased until the transaction ends, those that are gone already left aside."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT FROM accounts_user WHERE id = ANY(%s) ORDER BY id FOR KEY SHARE", [list(user_ids)])


def current_id(user_id: UUID) -> UUID:
    """The user that this one was merged into, or the user itself."""
    merged_into: UUID | None = User.objects.filter(pk=user_id).values_list("merged_into_id", flat=True).first()
    return merged_into or user_id


@repeated_on_deadlock
@transaction.atomic
def merge_users(*, source_id: UUID, target_id: UUID, by: Caller | User) -> None:
    """Give all that is the source's to the target; the source stays as an alias of it, which cannot sign in itself.

    Raises `NotFound`, and `Conflict` with the code same_user, user_merged, user_erased, user_not_active, staff_merge or
    two_paid_subscriptions. Whatever is inserted for the source while this runs, or later, becomes the target's.

    Locks first the users, then rows as the metered road does: whoever writes rows of a user holds the user's row
    before, so nobody can wait for us while we wait for them.
    """
    if source_id == target_id:
        raise Conflict("A user cannot be merged into itself.", code="same_user")
    source, target = _locked(source_id, target_id)
    for user in (source, target):
        _check_mergeable(user, by)
    belongings = all_belongings()
    for belonging in belongings:
        if belonging.lock is not None:
            belonging.lock((source_id, target_id))
    for belonging in belongings:
        belonging.move(source_id, target_id)
    _merge_profiles(source, target)
    # In this order: after the first, nobody can store any more what they had read of the source.
    drop_snapshots(source_id)
    drop_snapshots(target_id)
    audit.record("user.merged", by=by, target=source, into=str(target_id))
    audit.record("user.merged", by=by, target=target, source=str(source_id))


def _locked(source_id: UUID, target_id: UUID) -> tuple[User, User]:
    users = User.objects.select_for_update().filter(pk__in=[source_id, target_id]).order_by("pk")
    found = {user.pk: user for user in users}
    if len(found) < 2:
        raise NotFound("No such user.")
    return found[source_id], found[target_id]


def _check_mergeable(user: User, by: Caller | User) -> None:
    if user.erased_at is not None:
        raise Conflict("An erased user cannot be merged.", code="user_erased")
    if user.merged_into_id is not None:
        raise Conflict("One of the users was merged into another already.", code="user_merged")
    if not user.is_active:
        raise Conflict("Only active users can be merged.", code="user_not_active")
    if (user.is_staff or user.is_superuser) and not by.is_superuser:
        raise Conflict("Only a superuser may merge staff.", code="staff_merge")


def _merge_profiles(source: User, target: User) -> None:
    """The target's own values win. Rights do not move: nobody becomes staff by a merge."""
    taken = {name: getattr(source, name) for name in FILLED if not getattr(target, name) and getattr(source, name)}
    if sign_in_moves(source.pk, target.pk):
        taken |= {"email": source.email, "password": source.password, "is_verified": source.is_verified}
        taken["password_changed_at"] = source.password_changed_at
        source.email, source.is_verified = None, False
    for name in set(UNIQUE) & taken.keys():
        setattr(source, name, None)
    source.set_unusable_password()
    source.is_active = source.is_staff = source.is_superuser = False
    source.merged_into = target
    source.signed_out_at = timezone.now()
    source.save()
    source.groups.clear()
    source.user_permissions.clear()
    for name, value in taken.items():
        setattr(target, name, value)
    target.metadata = source.metadata | target.metadata
    target.save()
