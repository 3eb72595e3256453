"""Adding to a conversation, and reading one branch of it.

Everything that is said takes its place in one statement, which locks the conversation: so sequence numbers have no
gaps, and two who write at once come one after the other. A branch is the way from a message up to the first one.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import orjson
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from accounts.exceptions import InvalidInput
from conversations import live
from conversations.exceptions import ClientMessageReused, ConversationNotFound, MessageNotFound
from conversations.models import Conversation, Message

Role = Message.Role

MOST_BYTES = 256 * 1024
MOST_PAGE = 200

# The columns that whoever adds a message gives.
GIVEN = (
    *("id", "conversation_id", "reply_to_id", "role", "status", "content", "tool_calls", "tool_call_id"),
    *("client_message_id", "model_used", "token_count", "request_id", "metadata", "created_at"),
)
JSON_COLUMNS = {"tool_calls": "jsonb", "metadata": "jsonb"}
# To say something in an archived conversation brings it back.
APPEND = f"""
WITH former AS (
    SELECT id, head_id FROM conversations_conversation
    WHERE id = %(conversation_id)s AND deleted_at IS NULL FOR NO KEY UPDATE
), place AS (
    UPDATE conversations_conversation c
    SET last_sequence = c.last_sequence + 1, last_activity = %(created_at)s, archived_at = NULL, is_active = true,
        head_id = CASE WHEN %(moves_head)s THEN %(id)s::uuid ELSE c.head_id END
    FROM former
    WHERE c.id = former.id AND (NOT %(expects_head)s OR former.head_id IS NOT DISTINCT FROM %(head_id)s::uuid)
    RETURNING c.user_id, c.last_sequence,
              CASE WHEN %(at_head)s THEN former.head_id ELSE %(parent_id)s::uuid END AS parent_id
)
INSERT INTO conversations_message (sequence, parent_id, {", ".join(GIVEN)})
SELECT last_sequence, parent_id, {", ".join(f"%({name})s{'::jsonb' if name in JSON_COLUMNS else ''}" for name in GIVEN)}
FROM place
RETURNING sequence, parent_id, (SELECT user_id FROM place)
"""  # noqa: S608 - made of names that stand above

# The last one is found in one partition, by the time in its id, and so is each parent.
COLUMNS = ", ".join(f"m.{column.column}" for column in Message._meta.local_concrete_fields)
BRANCH = f"""
WITH RECURSIVE branch AS (
    SELECT {COLUMNS}, 1 AS place FROM conversations_message m
    WHERE m.id = %(last)s AND m.conversation_id = %(conversation)s
  UNION ALL
    SELECT {COLUMNS}, b.place + 1 FROM branch b JOIN conversations_message m ON m.id = b.parent_id
    WHERE b.place < %(most)s
)
SELECT * FROM branch ORDER BY place
"""  # noqa: S608 - names of columns
IS_ON_BRANCH = """
WITH RECURSIVE branch AS (
    SELECT id, parent_id, sequence FROM conversations_message WHERE id = %(last)s AND conversation_id = %(conversation)s
  UNION ALL
    SELECT m.id, m.parent_id, m.sequence FROM branch b JOIN conversations_message m ON m.id = b.parent_id
    WHERE b.sequence > (SELECT sequence FROM conversations_message WHERE id = %(wanted)s)
)
SELECT EXISTS (SELECT FROM branch WHERE id = %(wanted)s)
"""


def append(
    *,
    conversation_id: UUID,
    role: Message.Role,
    content: str,
    parent: UUID | None = None,
    at_head: bool = True,
    moves_head: bool = True,
    expects_head: bool = False,
    head: UUID | None = None,
    **fields: Any,
) -> Message | None:
    """Add a message, in the caller's transaction; None if the conversation was deleted meanwhile.

    It goes after the last message of the current branch, or with `at_head=False` after `parent`. It ends the current
    branch then, unless `moves_head` is false. With `expects_head`, nothing is added, too, if the branch does not end at
    `head` any more.
    """
    message = Message(
        conversation_id=conversation_id,
        role=role,
        content=content.replace("\0", "\ufffd"),
        created_at=timezone.now(),
        **fields,
    )
    values: dict[str, Any] = {name: getattr(message, name) for name in GIVEN}
    values |= {name: orjson.dumps(values[name]).decode() for name in JSON_COLUMNS}
    values |= {"at_head": at_head, "moves_head": moves_head, "expects_head": expects_head}
    with connection.cursor() as cursor:
        cursor.execute(APPEND, values | {"parent_id": parent, "head_id": head})
        place = cursor.fetchone()
    if place is None:
        return None
    message.sequence, message.parent_id, user_id = place
    message._state.adding = False
    said = {"id": message.pk, "role": role, "sequence": message.sequence}
    live.tell(user_id, live.SAID, conversation_id=conversation_id, **said)
    return message


def say(
    *,
    conversation_id: UUID,
    role: Message.Role,
    content: str,
    client_message_id: str = "",
    parent: UUID | None = None,
    at_head: bool = True,
    **fields: Any,
) -> tuple[Message, bool]:
    """Add a message that somebody wrote, and whether it is new: what came before under its client's id is found again.

    Raises `InvalidInput`, `MessageNotFound` for the parent, `ConversationNotFound`, `ClientMessageReused`.
    """
    if parent is not None:
        find_message(conversation_id=conversation_id, id=parent, param="parent")
    return _say(
        conversation_id=conversation_id,
        role=role,
        content=content,
        client_message_id=client_message_id,
        parent=parent,
        at_head=at_head,
        **fields,
    )


def edit(*, message: Message, content: str, **fields: Any) -> tuple[Message, bool]:
    """Say something otherwise: a new message beside the former one, which stays, and the end of the current branch.

    Raises what `say` raises, and `InvalidInput` for what a model or a tool has said.
    """
    if message.role not in {Role.USER, Role.SYSTEM}:
        raise InvalidInput("Only what a user or the system has said can be edited.", param="role", code="not_editable")
    return _say(
        conversation_id=message.conversation_id,
        role=Role(message.role),
        content=content,
        parent=message.parent_id,
        at_head=False,
        **fields,
    )


def _say(
    *, conversation_id: UUID, role: Message.Role, content: str, client_message_id: str = "", **fields: Any
) -> tuple[Message, bool]:
    check_content(role, content, tool_calls=fields.get("tool_calls") or [])
    try:
        with transaction.atomic():
            message = append(
                conversation_id=conversation_id,
                role=role,
                content=content,
                client_message_id=client_message_id,
                **fields,
            )
    except IntegrityError as error:
        if not violates(error, "message_client_message_id_unique"):
            raise
        found = said_before(conversation_id, client_message_id, role, content)
        if found is None:
            raise
        return found, False
    if message is None:
        raise ConversationNotFound
    return message, True


def move_head(*, conversation: Conversation, to: UUID) -> None:
    """Make the branch that ends at a message the current one. Raises `MessageNotFound`."""
    find_message(conversation_id=conversation.pk, id=to, param="head")
    Conversation.objects.alive().filter(pk=conversation.pk).update(head=to, last_activity=timezone.now())


def find_message(*, conversation_id: UUID, id: UUID, param: str | None = None) -> Message:
    found = Message.objects.filter(pk=id, conversation_id=conversation_id).first()
    if found is None:
        raise MessageNotFound(param=param)
    return found


def branch(*, conversation_id: UUID, last: UUID | None, most: int = MOST_PAGE) -> list[Message]:
    """At most `most` messages of the branch that ends at `last`, newest first, in one statement."""
    if last is None:
        return []
    return list(Message.objects.raw(BRANCH, {"last": last, "conversation": conversation_id, "most": most}))


def is_on_branch(*, conversation_id: UUID, wanted: UUID, last: UUID | None) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(IS_ON_BRANCH, {"last": last, "conversation": conversation_id, "wanted": wanted})
        row = cursor.fetchone()
    return bool(row and row[0])


def said_before(conversation_id: UUID, client_message_id: str, role: str, content: str) -> Message | None:
    """What came under a client's id, if anything did. Raises `ClientMessageReused` if it was something else."""
    found = Message.objects.filter(conversation_id=conversation_id, client_message_id=client_message_id).first()
    if found is not None and (found.role, found.content) != (role, content):
        raise ClientMessageReused(param="client_message_id")
    return found


def check_content(role: str, content: str, *, tool_calls: list[Any]) -> None:
    """`InvalidInput` on what nobody can have meant to say."""
    if not content.strip() and not tool_calls and role != Role.TOOL:
        raise InvalidInput("A message must say something.", param="content", code="blank")
    if len(content.encode("utf-8", "surrogatepass")) > MOST_BYTES:
        raise InvalidInput(f"A message may have {MOST_BYTES} bytes.", param="content", code="content_too_long")
    if "\0" in content:
        raise InvalidInput("Text must not contain NUL characters.", param="content", code="nul_character")


def violates(error: IntegrityError, constraint: str) -> bool:
    return getattr(getattr(error.__cause__, "diag", None), "constraint_name", None) == constraint
