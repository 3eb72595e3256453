"""`manage.py bench prompts`, searches: how fast and how complete they are by meaning, and how good by both halves."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from uuid import UUID

import numpy as np
import psycopg
from django.db import connection, transaction

from accounts.models import User
from config.bench import search_sets, statements
from config.bench.installation import conninfo
from config.bench.replay import Transaction
from config.bench.search_sets import Labelled, Rows
from prompts.intents import arithmetic
from prompts.intents.arithmetic import Matrix, Vector
from prompts.intents.evaluation import Embed
from prompts.models import DocumentEmbedding, SavedPrompt
from prompts.search import questions, searches, vectors
from prompts.search.finding import Asked, Filters, Meaning, find, nearest, visible_documents
from prompts.search.modes import Mode

DOCUMENTS, QUICK_DOCUMENTS = 100_000, 3_000
ASKED, QUICK_ASKED = 200, 30
QUESTIONS, QUICK_QUESTIONS = 500, 40
ROUNDS, QUICK_ROUNDS = 5, 1
BEST = 10
CHUNK = 2_000
INDEX = "documentembedding_slot_0"
PROMISED = {"recall": 0.95, "ratio": 1.5}

Say = Callable[[str], None]


def run(data: dict[str, Rows], by: Embed, *, quick: bool, say: Say) -> dict[str, Any]:
    """Both measurements, in the database of an installation that stands for nothing else."""
    most = QUICK_QUESTIONS if quick else QUESTIONS
    sets = (
        search_sets.same_intent(data, "testing", most),
        search_sets.documentation("testing", most),
        search_sets.rare_words(data, "testing", most),
    )
    quality = {one.name: goodness(one, by, say) for one in sets}
    return {"promised": PROMISED, "quality": quality, "speed": speed(data, by, quick=quick, say=say)}


# How good: nDCG@10 of each mode -----------------------------------------------------------------------------------


def goodness(one: Labelled, by: Embed, say: Say) -> dict[str, Any]:
    begun = time.perf_counter()
    user = User.objects.create_user(
        f"bench-{len(one.texts)}-{one.questions[0][0][:9]}@example.com".replace(" ", ""), None
    )
    ids = keep(user.pk, one.texts, by, say)
    meanings = embedded([text for text, _answers in one.questions], by)
    model = vectors.active_model()
    scores: dict[str, list[float]] = {mode.value: [] for mode in Mode}
    for (text, answers), vector in zip(one.questions, meanings, strict=True):
        wanted = {ids[place] for place in answers}
        for mode in Mode:
            rows = find(Asked(user.pk, text, mode, BEST), Meaning(vector, model))[:BEST]
            scores[mode.value].append(ndcg([row["id"] in wanted for row in rows], len(wanted)))
    say(f"{one.name}: {len(one.questions)} questions to {len(ids):,} texts, {time.perf_counter() - begun:.1f} s.")
    means = {mode: round(statistics.fmean(found), 4) for mode, found in scores.items()}
    return {"texts": len(ids), "questions": len(one.questions)} | means


def ndcg(hits: Sequence[bool], wanted: int) -> float:
    """nDCG of a list that begins with these, where `wanted` documents are right and all are right alike."""
    gains = sum(1 / np.log2(place + 2) for place, hit in enumerate(hits[:BEST]) if hit)
    return float(gains / sum(1 / np.log2(place + 2) for place in range(min(wanted, BEST))))


# How fast and how complete ----------------------------------------------------------------------------------------


def speed(data: dict[str, Rows], by: Embed, *, quick: bool, say: Say) -> dict[str, Any]:
    """The semantic search of somebody who sees all prompts, beside its statement alone."""
    user = User.objects.create_user("bench-speed@example.com", None)
    texts, asked = many(data, QUICK_DOCUMENTS if quick else DOCUMENTS, QUICK_ASKED if quick else ASKED)
    keep(user.pk, texts, by, say)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM (ANALYZE) prompts_searchdocument")
        cursor.execute("VACUUM (ANALYZE) prompts_documentembedding")
    model = vectors.active_model()
    found = [Meaning(vector, model) for vector in embedded(asked, by)]
    recall = [
        _recall(Asked(user.pk, text, Mode.SEMANTIC, BEST), meaning) for text, meaning in zip(asked, found, strict=True)
    ]
    say(f"Recall was measured with {len(asked)} questions.")
    return {
        "documents": len(texts),
        "questions": len(asked),
        "recall": round(statistics.fmean(recall), 4),
        "least_recall": round(min(recall), 4),
    } | _times(user.pk, asked, found, QUICK_ROUNDS if quick else ROUNDS)


def many(data: dict[str, Rows], count: int, most: int) -> tuple[Rows, list[str]]:
    """`count` different texts, of one sentence or two in a frame, and questions that are none of the sentences."""
    made = random.Random("many")  # noqa: S311 - no secret
    asked = made.sample([text for text, _intent in data["test"]], most)
    sentences = sorted({text for part in data.values() for text, _intent in part} - set(asked))
    frames = (
        "{0}",
        "Act as an assistant. {0}",
        "{0}. And then: {1}",
        "Rewrite this politely: {0}",
        "{1}? Or rather: {0}",
    )
    texts: dict[str, None] = {}
    while len(texts) < count:
        texts[made.choice(frames).format(*made.sample(sentences, 2))] = None
    return [(search_sets.title_of(text), text) for text in texts], asked


def _recall(asked: Asked, meaning: Meaning) -> float:
    """How many of the ten that are nearest were found."""
    seen = visible_documents(asked.user_id, Filters()).values("pk").query.sql_with_params()
    with connection.cursor() as cursor:
        cursor.execute(*nearest(seen, meaning, is_exact=True))
        exact = {key for key, _distance in cursor.fetchall()[:BEST]}
    return len(exact & {row["id"] for row in find(asked, meaning)[:BEST]}) / len(exact)


def _times(user_id: UUID, asked: list[str], found: list[Meaning], rounds: int) -> dict[str, float]:
    """Medians, in milliseconds, of the service, of its statements alone and of the ranking alone, taken in turns."""
    times: dict[str, list[float]] = {"p50_ms": [], "bare_p50_ms": [], "ranking_p50_ms": []}
    with psycopg.connect(conninfo(), prepare_threshold=2) as plain:
        for turn in range(rounds + 1):
            for text, meaning in zip(asked, found, strict=True):
                one, own = Asked(user_id, text, Mode.SEMANTIC, 20), Transaction()
                questions.remember(user_id, text, meaning.model, meaning.vector)
                statements.watch(partial(_served, one), own)
                both = [("p50_ms", _seconds(partial(_served, one))), *_replayed(plain, own)]
                for name, seconds in both if turn else ():  # at first, everything is read from the disk
                    times[name].append(seconds)
    p50 = {name: statistics.median(one) * 1000 for name, one in times.items()}
    p50["ratio"] = p50["p50_ms"] / p50["bare_p50_ms"]
    return {name: round(value, 3) for name, value in p50.items()}


def _replayed(plain: psycopg.Connection[Any], own: Transaction) -> list[tuple[str, float]]:
    """How long the statements of a search take with nothing of Django, and how long its last one, the ranking."""
    begun = time.perf_counter()
    with plain.transaction():
        for statement, values in own.statements:
            ranking = time.perf_counter()
            plain.execute(statement, values).fetchall()
        ranked = time.perf_counter()
    return [("bare_p50_ms", time.perf_counter() - begun), ("ranking_p50_ms", ranked - ranking)]


def _served(asked: Asked) -> searches.Result | None:
    return searches.begin(asked).at_once()


def _seconds(work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


# Prompts with vectors ---------------------------------------------------------------------------------------------


def keep(user_id: UUID, texts: Rows, by: Embed, say: Say) -> list[UUID]:
    """Saved prompts with their vectors; their ids, in the order of the texts. The index is made at the end, at once."""
    vectors.active_model()
    prompts = [SavedPrompt(user_id=user_id, title=title[:200], content=text) for title, text in texts]
    SavedPrompt.objects.bulk_create(prompts, batch_size=CHUNK)
    with connection.cursor() as cursor:
        cursor.execute("SELECT indexdef FROM pg_indexes WHERE indexname = %s", [INDEX])
        (definition,) = cursor.fetchone()
        cursor.execute(f"DROP INDEX {INDEX}")
        for start in range(0, len(prompts), CHUNK):
            _put_vectors(prompts[start : start + CHUNK], by)
            if len(prompts) > CHUNK:
                say(f"{min(start + CHUNK, len(prompts)):,} of {len(prompts):,} texts are embedded.")
        cursor.execute("SET maintenance_work_mem = '1GB'")
        cursor.execute(definition)
        cursor.execute("RESET maintenance_work_mem")
    return [prompt.pk for prompt in prompts]


def embedded(texts: list[str], by: Embed) -> Matrix:
    return arithmetic.unit(np.asarray(by(texts), dtype=np.float32))


def _put_vectors(prompts: list[SavedPrompt], by: Embed) -> None:
    rows = embedded([f"{prompt.title}\n{prompt.content}" for prompt in prompts], by)
    with transaction.atomic():
        for prompt, vector in zip(prompts, rows, strict=True):
            _put_vector(prompt.pk, vector)


def _put_vector(key: UUID, vector: Vector) -> None:
    DocumentEmbedding.objects.filter(document_id=key).update(embedding=vector)
