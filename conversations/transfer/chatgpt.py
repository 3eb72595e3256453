"""Conversations as ChatGPT exports them: a tree of nodes, each with a message or none, and the one that is current."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from typing import Any

from django.utils import timezone

from conversations.models import Message
from conversations.transfer.records import MOST_CONTENT, Fields, Said, Talk

ROLES = Message.Role.values
MOST_TITLE = 200
# Nobody has said these; they are shown nowhere, too.
HIDDEN = "is_visually_hidden_from_conversation"


def talk_of(found: Fields) -> Talk:
    """The whole tree; nodes without anything said are left out, and what follows them hangs on what came before."""
    mapping = Fields(found.value.get("mapping"), "mapping").value
    nodes = {key: Fields(node, f"mapping.{key}") for key, node in mapping.items()}
    started_at = found.time("create_time") or timezone.now()
    order, times = _in_order(nodes, started_at, found)
    numbers: dict[str | None, int | None] = {None: None}
    messages: list[Said] = []
    for key in order:
        before = numbers[_parent(nodes[key])]
        message = _message(nodes[key], before, times[key])
        if message is not None:
            messages.append(message)
        numbers[key] = before if message is None else len(messages)
    current = found.text("current_node", most=200) or None
    if current not in numbers:
        raise found.wrong("current_node", "names no node", "unknown_message")
    return Talk(
        title=found.storable("title", str(found.value.get("title") or "")[:MOST_TITLE]),
        started_at=started_at,
        last_activity=found.time("update_time") or max(times.values(), default=started_at),
        head=numbers[current] or len(messages) or None,
        messages=messages,
    )


def _in_order(nodes: dict[str, Fields], first: datetime, found: Fields) -> tuple[list[str], dict[str, datetime]]:
    """The nodes in the order of their times, but none before its parent, and these times."""
    children: dict[str | None, list[str]] = defaultdict(list)
    for key, node in nodes.items():
        parent = _parent(node)
        if parent is not None and parent not in nodes:
            raise node.wrong("parent", "names no node", "unknown_message")
        children[parent].append(key)
    order, times, waiting = [], {}, [(key, first) for key in reversed(children[None])]
    while waiting:
        key, before = waiting.pop()
        times[key] = max(_time(nodes[key]) or before, before)
        order.append(key)
        waiting.extend((child, times[key]) for child in reversed(children[key]))
    if len(order) < len(nodes):
        raise found.wrong("mapping", "has a circle of parents", "circle")
    return sorted(order, key=times.__getitem__), times


def _parent(node: Fields) -> str | None:
    return node.text("parent", most=200) or None


def _time(node: Fields) -> datetime | None:
    message = node.mapping("message")
    return Fields(message, f"{node.path}.message").time("create_time") if message else None


def _message(node: Fields, parent: int | None, time: datetime) -> Said | None:
    """What was said in a node; None if nothing was."""
    if not node.value.get("message"):
        return None
    message = Fields(node.value["message"], f"{node.path}.message")
    metadata = Fields(message.mapping("metadata"), f"{message.path}.metadata")
    author = Fields(message.mapping("author"), f"{message.path}.author")
    role = author.choice("role", ROLES)
    content = _text(Fields(message.mapping("content"), f"{message.path}.content"))
    if not content.strip() or metadata.value.get(HIDDEN) is True:
        return None
    return Said(
        role=role,
        content=content,
        created_at=time,
        parent=parent,
        model_used=metadata.text("model_slug", most=100) if role == Message.Role.ASSISTANT else "",
        metadata=_rest(message, author),
    )


def _text(content: Fields) -> str:
    """Of messages, code and what it put out; pictures and the like are not in the file."""
    parts: list[Any] = content.items("parts")
    texts = [part if isinstance(part, str) else part.get("text") for part in parts if isinstance(part, str | dict)]
    if not parts:
        texts = [content.value.get("text") or content.value.get("result")]
    whole = "\n".join(text for text in texts if isinstance(text, str))
    return Fields({"text": whole}, content.path).text("text", most=MOST_CONTENT)


def _rest(message: Fields, author: Fields) -> dict[str, Any]:
    """Which tool it is from or for, and of which kind, if it is no plain text."""
    recipient = message.text("recipient", most=200)
    kind = Fields(message.mapping("content")).text("content_type", most=100)
    rest = {
        "name": author.text("name", most=200),
        "recipient": "" if recipient == "all" else recipient,
        "content_type": "" if kind == "text" else kind,
    }
    return {name: value for name, value in rest.items() if value}
