"""The one statement that ranks what the halves of a search have found, and reads a page of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import connection, models
from django.db.models import QuerySet
from django.db.models.sql import Query

from prompts.models import SearchDocument
from prompts.search.modes import Mode

# A statement with places for values, and the values.
Sql = tuple[str, tuple[Any, ...]]

# Reciprocal rank fusion, of Cormack, Clarke and Büttcher (SIGIR 2009), who found this constant.
RANK_CONSTANT = 60
# What has all the words is a stronger sign than what is near: the first ten by words come before whatever is only near.
TEXT_WEIGHT, MEANING_WEIGHT = 1.15, 1.0

# How far the graph of vectors is walked: at first, and at most where much of it may not be seen. Plans are made for
# the very question: how rare its words are decides which index helps.
SETTINGS = {
    "hnsw.iterative_scan": "relaxed_order",
    "hnsw.ef_search": "200",
    "hnsw.max_scan_tuples": "50000",
    "plan_cache_mode": "force_custom_plan",
}

# What marks words until the text around them is escaped, and what stands for < and > meanwhile, so that nothing is
# taken for a tag, which counts for nothing. They are private to Unicode, and taken out of the text before.
MARK, UNMARK, LESS, GREATER = "\ue000", "\ue001", "\ue002", "\ue003"
PLAIN = ("<>" + MARK + UNMARK, LESS + GREATER)
IN_BODY = (
    f"FragmentDelimiter=' … ', StartSel={MARK}, StopSel={UNMARK}, MaxFragments=2, MinWords=12, MaxWords=30, ShortWord=0"
)
IN_TITLE = f"StartSel={MARK}, StopSel={UNMARK}, HighlightAll=true"

SCORES = {
    Mode.TEXT: "t.score",
    Mode.SEMANTIC: "1 - m.distance",
    Mode.HYBRID: (
        f"coalesce({TEXT_WEIGHT}::float8 / ({RANK_CONSTANT} + t.place), 0)"
        f" + coalesce({MEANING_WEIGHT}::float8 / ({RANK_CONSTANT} + m.place), 0)"
    ),
}
PREPARATION = "SELECT (SELECT count(*) FROM ({seen} LIMIT {most}) seen), {settings}"
NOTHING: Sql = ("SELECT NULL::uuid, NULL::float8 WHERE false", ())

# Documents of the same rank share a place. `near` is how many there are by meaning.
STATEMENT = """
WITH question (words) AS (SELECT {words}),
by_text (id, score) AS MATERIALIZED ({text}),
by_meaning (id, distance) AS MATERIALIZED ({meaning}),
ranked AS (
    SELECT id, t.place AS text_place, m.place AS meaning_place, 1 - m.distance AS similarity, {score} AS score
    FROM (SELECT id, score::float8 AS score, rank() OVER (ORDER BY score DESC) AS place FROM by_text) t
    FULL JOIN (SELECT id, distance, rank() OVER (ORDER BY distance) AS place FROM by_meaning) m USING (id)
),
page AS (
    SELECT *, (SELECT count(*) FROM by_meaning) AS near FROM ranked
    WHERE %s::uuid IS NULL OR (score, id) < (%s::float8, %s::uuid)
    ORDER BY score DESC, id DESC LIMIT %s
)
SELECT p.id, p.score, p.text_place, p.meaning_place, p.similarity, p.near, d.kind, d.owner_id, d.is_shared, d.title,
    d.tags, d.created_at, d.updated_at,
    ts_headline('english', translate(d.title, %s, %s), q.words, %s) AS marked_title,
    ts_headline('english', translate(d.body, %s, %s), q.words, %s) AS marked_body
FROM page p JOIN prompts_searchdocument d USING (id) CROSS JOIN question q
ORDER BY p.score DESC, p.id DESC
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page ends: what follows has a lower score, or the same and a lower id."""

    score: float
    document_id: UUID


@dataclass(frozen=True, slots=True)
class Halves:
    """What to rank: the question's words, and for each half what gives ids with scores, or with distances."""

    words: models.Expression
    text: QuerySet[Any] | None = None
    meaning: Sql | None = None

    @property
    def mode(self) -> Mode:
        if self.text is None:
            return Mode.SEMANTIC
        return Mode.TEXT if self.meaning is None else Mode.HYBRID


def prepare(seen: Sql, *, most: int) -> int:
    """Set what a search sets until its transaction ends; how many rows `seen` has, of which `most` are counted."""
    sql, values = seen
    with connection.cursor() as cursor:
        cursor.execute(
            PREPARATION.format(seen=sql, most=most, settings=", ".join(["set_config(%s, %s, true)"] * len(SETTINGS))),
            [*values, *(part for setting in SETTINGS.items() for part in setting)],
        )
        return int(cursor.fetchone()[0])


def ranked(halves: Halves, *, after: Place | None, most: int) -> list[dict[str, Any]]:
    """The best `most` documents after a place, best first."""
    words, of_words = _compiled(halves.words)
    text, of_text = NOTHING if halves.text is None else halves.text.query.sql_with_params()
    meaning, of_meaning = halves.meaning or NOTHING
    place = [after.document_id, after.score, after.document_id] if after else [None, None, None]
    with connection.cursor() as cursor:
        cursor.execute(
            STATEMENT.format(words=words, text=text, meaning=meaning, score=SCORES[halves.mode]),
            [*of_words, *of_text, *of_meaning, *place, most, *PLAIN, IN_TITLE, *PLAIN, IN_BODY],
        )
        columns = [column.name for column in cursor.description]
        return [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]


def _compiled(expression: models.Expression) -> Sql:
    query = Query(SearchDocument)
    sql, values = query.get_compiler(connection=connection).compile(expression.resolve_expression(query))
    return sql, tuple(values)
