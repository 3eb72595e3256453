"""What was said, found again by its words, in the conversations of one person."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib.postgres.search import SearchRank, SearchVectorField
from django.db.models import F, FloatField, Func, Q, QuerySet, TextField, Value
from django.db.models.expressions import RawSQL
from django.db.models.functions import Cast, Left

from conversations.models import Message
from prompts.search import cursors
from prompts.search.cursors import Cursor
from prompts.search.finding import NO_TAGS, RANK_NORMALIZATION, Words
from prompts.search.modes import Mode
from prompts.search.ranking import IN_BODY, PLAIN, Place
from prompts.search.searches import marked

# As much of a message as is searched (migration 0006).
SEARCHED = 50_000

Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Filters:
    channel: str | None = None
    role: str | None = None
    model: str | None = None
    conversation: UUID | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody looks for in the own conversations; the syntax is websearch's."""

    user_id: UUID
    text: str
    limit: int
    filters: Filters = Filters()


def search(asked: Asked, cursor: str = "") -> Result:
    """A page of messages, best first, in one statement. Raises `InvalidCursor`."""
    fingerprint = cursors.fingerprint("messages", asked.user_id, asked.text, asked.filters)
    words = Words(asked.text.translate(NO_TAGS))
    found = _ranked(_visible(asked.user_id, asked.filters), words)
    if cursor:
        place = cursors.read(cursor, of=fingerprint).place
        found = found.filter(Q(score__lt=place.score) | Q(score=place.score, pk__lt=place.document_id))
    text = Func(Left("content", SEARCHED), *map(Value, PLAIN), function="translate", output_field=TextField())
    marks = Func(Value("english"), text, words, Value(IN_BODY), function="ts_headline", output_field=TextField())
    rows = list(
        found.annotate(marks=Cast(marks, TextField())).values(
            *("id", "conversation_id", "conversation__title", "conversation__channel", "sequence", "role"),
            *("model_used", "marks", "score", "created_at"),
        )[: asked.limit + 1]
    )
    page, following = rows[: asked.limit], None
    if len(rows) > len(page):
        place = Place(page[-1]["score"], page[-1]["id"])
        following = cursors.write(Cursor(place, Mode.TEXT, None, None), of=fingerprint)
    return {"next": following, "previous": None, "mode_used": Mode.TEXT.value, "results": [_shown(row) for row in page]}


def _visible(user_id: UUID, filters: Filters) -> QuerySet[Message]:
    """What somebody has, but for deleted conversations, and of that, what the filters let through."""
    conditions = {
        "conversation__channel": filters.channel,
        "role": filters.role,
        "model_used": filters.model,
        "conversation": filters.conversation,
        "created_at__gt": filters.created_after,
        "created_at__lt": filters.created_before,
    }
    given = {name: value for name, value in conditions.items() if value is not None}
    return Message.objects.filter(conversation__user_id=user_id, conversation__deleted_at=None, **given)


def _ranked(messages: QuerySet[Message], words: Words) -> QuerySet[Any]:
    tsv = RawSQL('"conversations_message"."tsv"', [], output_field=SearchVectorField())
    rank = SearchRank(F("tsv"), words, cover_density=True, normalization=Value(RANK_NORMALIZATION))
    return (
        messages.annotate(tsv=tsv).filter(tsv=words).annotate(score=Cast(rank, FloatField())).order_by("-score", "-pk")
    )


def _shown(row: dict[str, Any]) -> Result:
    return {
        "id": row["id"],
        "conversation": row["conversation_id"],
        "title": row["conversation__title"],
        "channel": row["conversation__channel"],
        "sequence": row["sequence"],
        "role": row["role"],
        "model_used": row["model_used"],
        "highlight": marked(row["marks"]),
        "score": round(row["score"], 6),
        "created_at": row["created_at"],
    }
