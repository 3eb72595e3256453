"""Erasing a person. What becomes of the rows is declared in the `belongings` of each application."""

from __future__ import annotations

from uuid import UUID

from axes.models import AccessAttempt
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from accounts import audit
from accounts.belongings import all_belongings
from accounts.caller import Caller
from accounts.exceptions import Conflict, NotAllowed, NotFound
from accounts.merging import repeated_on_deadlock
from accounts.models import User
from accounts.snapshots import drop_snapshots, names_of


@repeated_on_deadlock
@transaction.atomic
def erase_user(*, user_id: UUID, by: Caller | User) -> None:
    """Delete or blank what is personal about a user and all aliases of theirs; money and audit rows stay, without it.

    Raises `NotFound`; `Conflict` with the code user_merged for an alias, which goes with the user that it became, or
    last_operator; `NotAllowed` if somebody who is not a superuser erases other staff. What is erased stays so.
    """
    user, *aliases = _locked(user_id)
    if user.erased_at is not None:
        return
    _check_erasable(user, by)
    # Before the rows go: the event names the person too, until all of theirs are blanked.
    audit.record("user.erased", by=by, target=user, aliases=[str(alias.pk) for alias in aliases])
    remembered = names_of(user_id)
    belongings = all_belongings()
    for belonging in belongings:
        if belonging.lock is not None:
            belonging.lock((user_id,))
    for belonging in belongings:
        belonging.wipe(user_id)
    AccessAttempt.objects.filter(username__in=[row.email for row in (user, *aliases) if row.email]).delete()
    for row in (user, *aliases):
        _blank(row)
        drop_snapshots(row.pk, also=remembered)


def _locked(user_id: UUID) -> list[User]:
    """The user, and then the aliases."""
    users = User.objects.select_for_update().filter(Q(pk=user_id) | Q(merged_into_id=user_id)).order_by("pk")
    found = sorted(users, key=lambda user: user.pk != user_id)
    if not found or found[0].pk != user_id:
        raise NotFound("No such user.")
    return found


def _check_erasable(user: User, by: Caller | User) -> None:
    if user.merged_into_id is not None:
        raise Conflict("This user was merged into another, and is erased with it.", code="user_merged")
    if (user.is_staff or user.is_superuser) and not by.is_superuser and by.pk != user.pk:
        raise NotAllowed("Only a superuser may erase other staff.")
    if user.is_superuser:
        # Locked, so that two operators who leave at once do not both count on the other.
        others = User.objects.select_for_update(no_key=True).filter(is_superuser=True, is_staff=True, is_active=True)
        if not others.exclude(pk=user.pk).order_by("pk"):
            raise Conflict("The last operator cannot be erased: make somebody a superuser first.", code="last_operator")


def _blank(user: User) -> None:
    """Only the id is left, and what payments are found by."""
    user.email = user.username = None
    user.full_name = user.preferred_model = ""
    user.metadata = {}
    user.set_unusable_password()
    user.is_active = user.is_verified = user.is_staff = user.is_superuser = False
    user.last_login = user.password_changed_at = None
    user.erased_at = user.signed_out_at = timezone.now()
    user.save()
    user.groups.clear()
    user.user_permissions.clear()
