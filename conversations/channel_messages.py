"""What a bot brings from its channel in one call: who says it is resolved already, where it goes on is found here."""

from __future__ import annotations

from typing import Any

from accounts.caller import Caller
from accounts.exceptions import InvalidInput
from accounts.people import HEADER, MOST_USERNAME
from conversations import channels, replies, sessions
from conversations.models import Conversation, Message
from conversations.replies import Reply
from quotas.idempotency import Claim


def open_message(
    *, caller: Caller, person: str, channel_name: str, body: dict[str, Any], claim: Claim | None = None
) -> Reply:
    """The first commit of a turn in the caller's open conversation on a channel.

    `person` is what X-On-Behalf-Of says, if it is there. Raises `ChannelNotFound`, `InvalidInput`, and what
    `replies.open_reply` raises.
    """
    channel_type, is_identity, channel_user_id = person.partition(":")
    if is_identity and channel_type != channel_name:
        raise InvalidInput(f"{HEADER} names a person on another channel.", param=HEADER, code="channel_mismatch")
    channel = channels.known(channel_name)
    username = _checked(body)
    said = replies.checked(body, claim)
    channel.check()
    session = sessions.touch(channel=channel.name, user_id=caller.user_id)
    if is_identity and username:
        sessions.note_username(
            channel=channel.name,
            channel_user_id=channel_user_id,
            user_id=caller.user_id,
            session=session,
            username=username,
        )
    conversation = sessions.resume(
        channel=channel.name,
        user_id=caller.user_id,
        session=session,
        client_message_id=said[1],
        begins_anew=body.get("new") is True,
    )
    welcome = welcome_of(conversation, said_before=conversation.last_sequence)
    return replies.open_in(conversation=conversation, caller=caller, said=said, body=body, claim=claim, welcome=welcome)


def welcome_again(answer: Message) -> str:
    """What went with an answer when it came for the first time."""
    return welcome_of(answer.conversation, said_before=answer.sequence - 1)


def welcome_of(conversation: Conversation, *, said_before: int) -> str:
    """How the channel welcomes who has begun a first conversation; also if the first message got no answer."""
    text = channels.channel(conversation.channel).welcome_text
    return text if text and said_before <= 1 and sessions.is_first(conversation) else ""


def _checked(body: dict[str, Any]) -> str:
    """What the person is called; empty if that is not said. Raises `InvalidInput`."""
    if body.get("content") is None:
        raise InvalidInput("Say something.", param="content", code="required")
    if not isinstance(body.get("new") or False, bool):
        raise InvalidInput("`new` must be true or false.", param="new", code="invalid_type")
    username = body.get("username") or ""
    if not isinstance(username, str) or len(username) > MOST_USERNAME or "\0" in username:
        raise InvalidInput(f"`username` must be a text of at most {MOST_USERNAME} characters.", param="username")
    return username
