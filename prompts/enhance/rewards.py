"""What feedback is worth, and the sums of it by intent and technique.

Only what Mainstay has chosen by itself is judged here, and of each user no more than MOST_COUNTED prompts of an intent
count for a technique: nobody alone decides what all others get.

The sums are changed in the database, by what is added or taken away, in the transaction of what they sum up; rows are
locked in the order of their techniques, so that no two can wait for each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from decimal import Decimal
from typing import Any

from django.db import connection
from django.utils import timezone

from accounts.ids import uuid7
from prompts.models import PromptHistory

HUNDREDTH = Decimal("0.01")
# Below the weight of the first guess.
MOST_COUNTED = 3
# How much each part of a judgement counts.
RATING, THUMBS, USED = 2, 2, 1

# What was judged is added for those in `counted` alone. The trailing order is the one in which rows are locked.
ADD = """
INSERT INTO prompts_techniqueeffectiveness AS e (
    id, intent, technique_id, shown, used, successes, failures, rating_count, rating_sum, updated_at)
SELECT n.id, %(intent)s, t.id, %(shown)s, %(used)s * is_counted, %(successes)s * is_counted,
    %(failures)s * is_counted, %(rating_count)s * is_counted, %(rating_sum)s * is_counted, %(now)s
FROM unnest(%(ids)s::uuid[], %(slugs)s::text[]) AS n(id, slug) JOIN prompts_technique t ON t.slug = n.slug,
    LATERAL (SELECT (n.slug = ANY(%(counted)s::text[]))::int) AS c(is_counted)
ORDER BY t.id
ON CONFLICT (intent, technique_id) DO UPDATE SET
    shown = e.shown + excluded.shown, used = e.used + excluded.used,
    successes = e.successes + excluded.successes, failures = e.failures + excluded.failures,
    rating_count = e.rating_count + excluded.rating_count, rating_sum = e.rating_sum + excluded.rating_sum,
    updated_at = excluded.updated_at
"""

# What is proposed for insertion must keep to the constraints by itself, so what is taken away has its own statement.
CHANGE = """
WITH locked AS (
    SELECT e.id, (t.slug = ANY(%(counted)s::text[]))::int AS is_counted
    FROM prompts_techniqueeffectiveness e JOIN prompts_technique t ON t.id = e.technique_id
    WHERE e.intent = %(intent)s AND t.slug = ANY(%(slugs)s) ORDER BY t.id FOR NO KEY UPDATE OF e
)
UPDATE prompts_techniqueeffectiveness e SET
    shown = e.shown + %(shown)s, used = e.used + %(used)s * is_counted,
    successes = e.successes + %(successes)s * is_counted, failures = e.failures + %(failures)s * is_counted,
    rating_count = e.rating_count + %(rating_count)s * is_counted,
    rating_sum = e.rating_sum + %(rating_sum)s * is_counted, updated_at = %(now)s
FROM locked WHERE e.id = locked.id
"""


@dataclass(frozen=True, slots=True)
class Sums:
    """What one improved prompt adds to a technique for which it counts; to its others, `shown` alone."""

    shown: int = 0
    used: int = 0
    successes: Decimal = Decimal(0)
    failures: Decimal = Decimal(0)
    rating_count: int = 0
    rating_sum: int = 0

    def __sub__(self, other: Sums) -> Sums:
        return Sums(*(mine - theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))

    def __bool__(self) -> bool:
        return any(astuple(self))


def sums_of(history: PromptHistory) -> Sums:
    """All that a prompt stands for in the sums, as it is judged now."""
    reward = reward_of(history)
    return Sums(
        shown=1,
        used=int(history.used_it is True),
        successes=reward if reward is not None else Decimal(0),
        failures=1 - reward if reward is not None else Decimal(0),
        rating_count=int(history.rating is not None),
        rating_sum=history.rating or 0,
    )


def reward_of(history: PromptHistory) -> Decimal | None:
    """How good a result was, from 0 to 1; None if nobody has said. The mean of what was said, weighted."""
    parts: list[tuple[int, Decimal]] = []
    if history.rating is not None:
        parts.append((RATING, Decimal(history.rating - 1) / 4))
    if history.thumbs:
        parts.append((THUMBS, Decimal(history.thumbs == PromptHistory.Thumbs.UP)))
    if history.used_it is not None:
        parts.append((USED, Decimal(history.used_it)))
    if not parts:
        return None
    return (sum(weight * part for weight, part in parts) / Decimal(sum(weight for weight, _ in parts))).quantize(
        HUNDREDTH
    )


def add(*, intent: str, slugs: Sequence[str], sums: Sums, counted: Sequence[str] = ()) -> None:
    """Add `sums`, none of which is negative; rows that do not exist yet are made."""
    _execute(ADD, intent, slugs, sums, counted=list(counted), ids=[uuid7() for _ in slugs])


def change(*, intent: str, slugs: Sequence[str], by: Sums, counted: Sequence[str]) -> None:
    """Add what may be negative, to rows that exist: those of a prompt that was counted before."""
    if by:
        _execute(CHANGE, intent, slugs, by, counted=list(counted))


def _execute(statement: str, intent: str, slugs: Sequence[str], sums: Sums, **more: Any) -> None:
    if not slugs:
        return
    values = {field.name: getattr(sums, field.name) for field in fields(sums)}
    with connection.cursor() as cursor:
        cursor.execute(statement, {"intent": intent, "slugs": list(slugs), "now": timezone.now(), **values, **more})
