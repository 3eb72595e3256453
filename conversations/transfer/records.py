"""A conversation as files have it, and how its fields are looked at before they are believed."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson
from django.conf import settings
from django.utils.dateparse import parse_datetime

from accounts.exceptions import InvalidInput
from conversations.models import Message
from inference.payloads import check_depth, check_nul

MOST_CONTENT = 4 * 1024 * 1024
MOST_INTEGER = 2**31 - 1


@dataclass(slots=True)
class Said:
    """A message. Others are named by their numbers in the conversation, counted from 1."""

    role: str
    content: str
    created_at: datetime
    parent: int | None = None
    reply_to: int | None = None
    status: str = Message.Status.COMPLETE.value
    tool_calls: list[Any] = field(default_factory=list)
    tool_call_id: str = ""
    client_message_id: str = ""
    model_used: str = ""
    token_count: int | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Talk:
    """A conversation with all that was said in it, in its order. `head` is the number of its last message."""

    title: str
    started_at: datetime
    last_activity: datetime
    head: int | None
    messages: list[Said]
    channel: str = ""
    model_override: str = ""
    tags: list[str] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    archived_at: datetime | None = None
    pinned_at: datetime | None = None


class Fields:
    """An object of a file. What is wrong with a field is said with its path, as `InvalidInput`."""

    def __init__(self, value: Any, path: str = "") -> None:
        self.path = path
        if not isinstance(value, dict):
            raise self.wrong("", "must be an object")
        self.value: dict[str, Any] = value

    def text(self, name: str, *, most: int, default: str = "") -> str:
        """At most `most` characters; what is null or not there is the default."""
        found = self.value.get(name)
        if found is None:
            return default
        if not isinstance(found, str):
            raise self.wrong(name, "must be a text")
        if len(found) > most:
            raise self.wrong(name, f"has more than {most:,} characters", "too_long")
        self.storable(name, found)
        return found

    def choice(self, name: str, among: list[str], default: str | None = None) -> str:
        found = self.value.get(name, default)
        if found not in among:
            raise self.wrong(name, f"must be one of {', '.join(among)}", "invalid_choice")
        return str(found)

    def integer(self, name: str) -> int | None:
        found = self.value.get(name)
        if found is not None and (type(found) is not int or not 0 <= found <= MOST_INTEGER):
            raise self.wrong(name, "must be a whole number")
        return found

    def time(self, name: str) -> datetime | None:
        """RFC 3339 with an offset, or the seconds since 1970."""
        found = self.value.get(name)
        if found is None:
            return None
        try:
            if isinstance(found, int | float) and not isinstance(found, bool):
                return datetime.fromtimestamp(found, tz=UTC)
            time = parse_datetime(found) if isinstance(found, str) else None
            if time is not None and time.tzinfo is not None:
                # The first and the last day of all may have no such time in UTC.
                return time.astimezone(UTC)
        except (ValueError, OverflowError, OSError):
            pass
        raise self.wrong(name, "must be a time with its offset, or the seconds since 1970")

    def mapping(self, name: str) -> dict[str, Any]:
        found = self.value.get(name)
        if found is not None and not isinstance(found, dict):
            raise self.wrong(name, "must be an object")
        return self.storable(name, found or {})  # type: ignore[no-any-return]

    def items(self, name: str) -> list[Any]:
        found = self.value.get(name)
        if found is not None and not isinstance(found, list):
            raise self.wrong(name, "must be a list")
        return found or []

    def storable(self, name: str, value: Any) -> Any:
        """The value, if the database can keep it."""
        try:
            if isinstance(value, str):
                value.encode()
            elif value:
                orjson.dumps(value)
                check_depth(value, settings.MAX_JSON_DEPTH)
            check_nul(value)
        except UnicodeEncodeError:
            raise self.wrong(name, "has characters that are none", "lone_surrogate") from None
        except InvalidInput as error:
            raise self.wrong(name, f"cannot be kept: {error}", error.code) from None
        except TypeError as error:
            raise self.wrong(name, f"cannot be kept: {error}") from None
        return value

    def wrong(self, name: str, what: str, code: str = "invalid_file") -> InvalidInput:
        path = ".".join(part for part in (self.path, name) if part)
        return InvalidInput(f"{path or 'the conversation'} {what}.", code=code, param=path or None)
