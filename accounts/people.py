"""The people behind channels: who `discord:1234` is, and how somebody proves to be the same person on two channels."""

from __future__ import annotations

import re
from uuid import UUID

from django.db import IntegrityError, transaction

from accounts import audit
from accounts.caller import Caller
from accounts.exceptions import InvalidInput, NotFound
from accounts.models import ChannelIdentity, User

CHANNEL_TYPE = re.compile(r"[a-z][a-z0-9_-]{0,49}")
# No comma: that is how two headers of the same name arrive.
CHANNEL_USER_ID = re.compile(r"[\x21-\x2b\x2d-\x7e]{1,255}")
# What somebody may write who means a user's id.
NO_CHANNELS = {"user", "users", "id", "me"}
HEADER = "X-On-Behalf-Of"
MOST_USERNAME = 255


def named(name: str, *, by: Caller) -> User:
    """The user whom `name` speaks of: a user's id, or `channel:id`, who is created on first sight.

    A merged account leads to the one it became. `InvalidInput` if the name is neither, `NotFound` if no user has the
    id. `by` is the key that says so.
    """
    channel_type, is_channel, channel_user_id = name.partition(":")
    if is_channel:
        check_channel(channel_type, channel_user_id)
        return _of_channel(channel_type, channel_user_id) or _first_seen(channel_type, channel_user_id, by)
    try:
        wanted = UUID(name)
    except ValueError:
        raise InvalidInput(f"{HEADER} must be channel:id or a user's id.", param=HEADER) from None
    user = User.objects.select_related("merged_into").filter(pk=wanted).first()
    if user is None:
        raise NotFound("No such user.", code="user_not_found", param=HEADER)
    return user.merged_into or user


def note_username(*, channel_type: str, channel_user_id: str, username: str) -> None:
    """Keep what a person is called on a channel, if it has changed."""
    theirs = ChannelIdentity.objects.filter(channel_type=channel_type, channel_user_id=channel_user_id)
    identity = theirs.first()
    if identity is not None and identity.username != username:
        theirs.update(username=username)


def check_channel(channel_type: str, channel_user_id: str) -> None:
    """`InvalidInput` unless these can be the name of a channel and the id of a person there."""
    if not CHANNEL_TYPE.fullmatch(channel_type) or channel_type in NO_CHANNELS:
        raise InvalidInput(
            "The channel must be a name of at most 50 lower-case letters, digits, _ and -, and not user or id.",
            param="channel_type",
        )
    if not CHANNEL_USER_ID.fullmatch(channel_user_id):
        raise InvalidInput(
            "The id on the channel must be 1 to 255 visible ASCII characters, and no comma.", param="channel_user_id"
        )


def _of_channel(channel_type: str, channel_user_id: str) -> User | None:
    return User.objects.filter(
        channel_identities__channel_type=channel_type, channel_identities__channel_user_id=channel_user_id
    ).first()


def _first_seen(channel_type: str, channel_user_id: str, by: Caller) -> User:
    try:
        with transaction.atomic():
            user = User.objects.create_user(None)
            ChannelIdentity.objects.create(user=user, channel_type=channel_type, channel_user_id=channel_user_id)
            audit.record("user.first_seen", by=by, target=user, channel=channel_type)
            return user
    except IntegrityError:
        # Somebody else has seen the person at the same moment, and was first.
        found = _of_channel(channel_type, channel_user_id)
        assert found is not None
        return found
