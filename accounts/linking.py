"""How a person proves to be the same on two channels: a short code, made on one and typed in on the other."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils.crypto import salted_hmac

from accounts import audit, codes
from accounts.caller import Caller
from accounts.exceptions import Conflict, NotFound
from accounts.merging import merge_users
from accounts.models import ChannelIdentity, OneTimeCode, User
from accounts.snapshots import drop_snapshots, of_person

# Without letters and digits that look alike.
ALPHABET = "ABCDEFGHJKMNPQRSTUVWXYZ23456789"
CODE_LENGTH = 8
LIFETIME = timedelta(minutes=10)
Purpose = OneTimeCode.Purpose


def create_link_code(*, caller: Caller) -> tuple[str, datetime]:
    """A code such as `K7PM-2QXA` and its end; one made before is worth nothing any more."""
    code = "".join(secrets.choice(ALPHABET) for _ in range(CODE_LENGTH))
    with transaction.atomic():
        # Before their codes, as merging does.
        User.objects.select_for_update(no_key=True).get(pk=caller.user_id)
        codes.void(user_id=caller.user_id, purpose=Purpose.LINK_CHANNEL)
        kept = codes.store(
            user_id=caller.user_id, purpose=Purpose.LINK_CHANNEL, code_hash=_hash(code), lifetime=LIFETIME
        )
    return f"{code[:4]}-{code[4:]}", kept.expires_at


def redeem_link_code(*, code: str, caller: Caller) -> UUID:
    """Make one person of the caller and whoever made the code, and answer that person's id.

    Who has no e-mail address is merged into who has one; of two without, the caller into the other. `InvalidInput` if
    the code is wrong, used or too old. `Conflict` if both can sign in: then an operator has to merge them.
    """
    named: dict[str, Any] = {
        "code_hash": _hash(code),
        "purpose": Purpose.LINK_CHANNEL,
        "noun": "code",
        "param": "code",
    }
    with transaction.atomic():
        maker_id = codes.find_by_hash(**named).user_id
        # Both users before the code, and in the order of merging: two who redeem each other's codes take turns.
        people = User.objects.select_for_update().filter(pk__in=[maker_id, caller.user_id]).order_by("pk")
        found = {user.pk: user for user in people}
        made_by, redeemer = found[maker_id], found[caller.user_id]
        codes.use_by_hash(**named)
        if made_by.email and redeemer.email and made_by != redeemer:
            raise Conflict("Both accounts have a sign-in: ask an operator to merge them.", code="two_sign_ins")
        source, target = (made_by, redeemer) if redeemer.email else (redeemer, made_by)
        merge_users(source_id=source.pk, target_id=target.pk, by=caller)
        audit.record("channel.linked", by=caller, target=target)
    return target.pk


def unlink(*, identity_id: UUID, by: Caller | User, user_id: UUID | None = None) -> None:
    """Take an identity from its user: who speaks from it next is somebody new.

    With `user_id`, only if it is that user's, else `NotFound`; `Conflict` if the user could not be reached any more.
    """
    identities = ChannelIdentity.objects.filter(pk=identity_id)
    if user_id is not None:
        identities = identities.filter(user_id=user_id)
    with transaction.atomic():
        identity = identities.select_related("user").first()
        if identity is None:
            raise NotFound("No such channel identity.")
        # Two at once must not each take the other for the one that stays.
        user = User.objects.select_for_update(no_key=True).get(pk=identity.user_id)
        if not user.email and not ChannelIdentity.objects.filter(user=user).exclude(pk=identity.pk).exists():
            raise Conflict("This is the only way to reach the account. Close the account instead.", code="last_channel")
        ChannelIdentity.objects.filter(pk=identity.pk, user=user).delete()
        drop_snapshots(user.pk, also=[of_person(str(identity))])
        audit.record("channel.unlinked", by=by, target=user, channel=identity.channel_type)


def _hash(code: str) -> str:
    """Keyed, since so short a code could be guessed from its hash."""
    plain = "".join(code.split()).replace("-", "").upper()
    return salted_hmac("accounts.linking", plain, algorithm="sha256").hexdigest()
