"""What is like a question, of all that somebody may see: by words, by meaning, or by both."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib.postgres.search import CombinedSearchQuery, SearchQuery, SearchRank
from django.db import models, transaction
from django.db.models import F, Q, QuerySet, Value
from pgvector import HalfVector

from prompts.intents.arithmetic import Vector
from prompts.models import EmbeddingModel, SearchDocument
from prompts.search.modes import Mode
from prompts.search.ranking import Halves, Place, Sql, prepare, ranked

# How many of the nearest there are: what is farther away is not found by meaning.
DEPTH = 100
# By words, more can be paged through.
MOST_BY_TEXT = 1_000
# Ranks are divided by 1 + the logarithm of the length: long texts have every word somewhere.
RANK_NORMALIZATION = 1
# The share of words that are no stop words, from which on their stems say what a question is about.
LEAST_TELLING = 0.6
IS_TELLING = "length(to_tsvector('english', %s::text)) >= %s * length(to_tsvector('simple', %s::text))"
# Up to so many documents, looking at each takes milliseconds and misses none.
EXACT_UP_TO = 2_000
# The slot stands in it as it is: there is an index for each, which knows distances and nothing else to sort by.
NEAREST = """
SELECT document_id, {distance} AS distance FROM prompts_documentembedding
WHERE slot = {slot} AND embedding IS NOT NULL AND document_id IN ({seen}) ORDER BY {order} LIMIT {most}
"""
BY_INDEX = {"distance": "embedding <=> %s::halfvec", "order": "distance"}
# With zero added, a distance is none that an index knows. Of those at the same distance, each page has the same.
EXACTLY = {"distance": "(embedding <=> %s::halfvec) + 0.0", "order": "distance, document_id DESC"}
# Of a draft, so many words are looked for where its meaning cannot be.
MOST_WORDS = 50
# As the documents are read: what stands in < and > is words.
NO_TAGS = str.maketrans("<>", "  ")
# Words and phrases, each with the signs before it, of which web searches know - alone.
OPERANDS = re.compile(r'(?:^|(?<=[\s|&()!"]))(-[\s|&()!-]*)?("[^"]*"?|[^\s|&()!"]+)')


class Words(CombinedSearchQuery):
    """Finds what has all words as they are, or the English stems of all but stop words."""

    def __init__(self, text: str) -> None:
        self.text = text
        plain, stems = (SearchQuery(text, config=config, search_type="websearch") for config in ("simple", "english"))
        super().__init__(plain, "||", stems, None)


class TellingWords(Words):
    """The same, but of a question that is mostly stop words, all words as they are.

    What is left of "what is your name" without them stands in many documents that are about something else.
    """

    def as_sql(self, compiler: Any, *args: Any, **options: Any) -> Any:
        both, of_both = super().as_sql(compiler, *args, **options)
        plain, of_plain = compiler.compile(self.lhs)
        values = [self.text, LEAST_TELLING, self.text, *of_both, *of_plain]
        return f"(CASE WHEN {IS_TELLING} THEN {both} ELSE {plain} END)", values


class AnyWord(SearchQuery):
    """Finds what has at least one of the words."""

    def as_sql(self, *args: Any, **options: Any) -> Any:
        sql, values = super().as_sql(*args, **options)
        return f"replace({sql}::text, ' & ', ' | ')::tsquery", values


@dataclass(frozen=True, slots=True)
class Filters:
    kind: str | None = None
    tag: str | None = None
    collection: UUID | None = None
    is_favourite: bool | None = None
    intent: str | None = None
    created_after: datetime | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """What is looked for, and by whom. `any_word` finds what has some of the words; else the syntax is websearch's."""

    user_id: UUID
    text: str
    mode: Mode
    limit: int
    filters: Filters = Filters()
    after: Place | None = None
    any_word: bool = False


@dataclass(frozen=True, slots=True)
class Meaning:
    """A vector of length one, and which model made it."""

    vector: Vector
    model: EmbeddingModel


def find(asked: Asked, meaning: Meaning | None = None) -> list[dict[str, Any]]:
    """The best `limit` documents after `asked.after`, and one more if there is one. Modes but `text` need a meaning."""
    visible, words = visible_documents(asked.user_id, asked.filters), words_of(asked)
    if excluded := excluded_words(asked):
        visible = visible.exclude(tsv=Words(excluded))
    # It is part of two statements, and takes longer to compile than all the rest.
    seen = visible.order_by().values("pk").query.sql_with_params()
    with transaction.atomic():
        is_exact = prepare(seen, most=EXACT_UP_TO + 1) <= EXACT_UP_TO
        if asked.mode == Mode.TEXT:
            text = _by_text(visible, words)[:MOST_BY_TEXT]
            return ranked(Halves(words, text=text), after=asked.after, most=asked.limit + 1)
        assert meaning is not None
        text_half = None
        if asked.mode == Mode.HYBRID:
            # What only excludes words ranks nothing.
            text_half = _by_text(visible, words_of(asked, TellingWords)).filter(score__gt=0)[:MOST_BY_TEXT]
        while True:
            halves = Halves(words, text_half, nearest(seen, meaning, is_exact=is_exact))
            rows = ranked(halves, after=asked.after, most=asked.limit + 1)
            if is_exact or (rows and rows[0]["near"] >= DEPTH):
                return rows
            # The walk through the graph ended before it had met enough that may be seen.
            is_exact = True


def visible_documents(user_id: UUID, filters: Filters) -> QuerySet[SearchDocument]:
    """What somebody may see, and of that, what the filters let through."""
    conditions = {
        "kind": filters.kind,
        "saved__collection_id": filters.collection,
        "history__intent": filters.intent,
        "created_at__gt": filters.created_after,
        "tags__contains": [filters.tag] if filters.tag is not None else None,
    }
    found = SearchDocument.objects.visible_to(user_id).filter(
        **{name: value for name, value in conditions.items() if value is not None}
    )
    if filters.is_favourite is None:
        return found
    # What others like is nobody else's favourite.
    favourite = Q(owner_id=user_id, saved__is_favourite=True)
    return found.filter(favourite) if filters.is_favourite else found.exclude(favourite)


def words_of(asked: Asked, kind: type[Words] = Words) -> models.Expression:
    """The question as the text search understands it."""
    text = asked.text.translate(NO_TAGS)
    if asked.any_word:
        return AnyWord(" ".join(text.split()[:MOST_WORDS]), config="english")
    return kind(text)


def excluded_words(asked: Asked) -> str:
    """What must not stand in a document, in any of its forms, as a question of its own; of a draft, nothing."""
    if asked.any_word:
        return ""
    operands = OPERANDS.findall(asked.text.translate(NO_TAGS))
    negated = (operand.strip('"') for signs, operand in operands if signs.count("-") % 2)
    return " or ".join(f'"{operand}"' for operand in negated if operand)


def nearest(seen: Sql, meaning: Meaning, *, is_exact: bool) -> Sql:
    """The statement for the nearest documents and their cosine distances."""
    of_seen, values = seen
    how = EXACTLY if is_exact else BY_INDEX
    statement = NEAREST.format(slot=meaning.model.slot, seen=of_seen, most=DEPTH, **how)
    return statement, (HalfVector(meaning.vector).to_text(), *values)


def _by_text(visible: QuerySet[SearchDocument], words: models.Expression) -> QuerySet[Any]:
    rank = SearchRank(F("tsv"), words, cover_density=True, normalization=Value(RANK_NORMALIZATION))
    return visible.filter(tsv=words).annotate(score=rank).order_by("-score", "-id").values_list("id", "score")
