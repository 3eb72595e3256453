"""Conversations of a file, kept for a user: all of them or none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import IO
from uuid import UUID

from django.db import transaction

from accounts import audit
from accounts.caller import Caller
from accounts.exceptions import InvalidInput
from accounts.models import User
from conversations import channels, partitions
from conversations.transfer.formats import Format, talk_of
from conversations.transfer.reading import values_of
from conversations.transfer.records import Talk
from conversations.transfer.writing import Writer

Say = Callable[[int, int], object]


@dataclass(slots=True)
class Imported:
    """How many there were."""

    conversations: int = 0
    messages: int = 0


def import_conversations(
    *,
    user_id: UUID,
    by: Caller | User | None,
    file: IO[bytes],
    channel: str,
    kind: Format | None = None,
    say: Say | None = None,
) -> Imported:
    """Keep the conversations of a file for a user, as new ones: one that is imported twice is there twice.

    However long the file is, a few thousand messages are in memory, or one conversation if that is more. Where a file
    names no channel, they are of `channel`. `say` hears how many conversations and messages were written so far.
    `InvalidInput` says by line or number what is wrong; nothing is kept then.
    """
    # What comes in lies in the month in which it does (docs/decisions/0014).
    partitions.manage()
    done, known = Imported(), frozenset(channels.names())
    with transaction.atomic():
        with Writer(user_id, channel) as writer:
            for where, value in values_of(file):
                talk = _talk_of(where, value, kind, known)
                done.conversations, done.messages = done.conversations + 1, done.messages + len(talk.messages)
                if writer.add(talk) and say is not None:
                    say(done.conversations, done.messages)
        audit.record(
            "conversation.imported",
            by=by,
            user=str(user_id),
            conversations=done.conversations,
            messages=done.messages,
        )
    if say is not None:
        say(done.conversations, done.messages)
    return done


def _talk_of(where: str, value: object, kind: Format | None, known: frozenset[str]) -> Talk:
    try:
        talk = talk_of(value, kind)
        if talk.channel and talk.channel not in known:
            raise InvalidInput("There is no such channel.", param="channel", code="unknown_channel")
    except InvalidInput as error:
        raise InvalidInput(f"{where}: {error}", param=error.param, code=error.code) from None
    return talk
