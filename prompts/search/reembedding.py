"""Another embedding model in the place of the active one, while people search.

The new vectors are made beside the old ones. Then, in one transaction, the new model becomes active and the patterns of
intents get its vectors and a classifier that has learned them: whoever asks finds all of the old or all of the new. The
old vectors stay a quarter of an hour for those who are on their way. What was done before a stop is not done again,
except for the patterns, which are few.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

import numpy as np
import structlog
from django.db import connection, transaction
from django.db.models import Exists, OuterRef
from django.db.models.functions import Now
from django.utils import timezone

from accounts.exceptions import Conflict
from inference.routes import routes_for
from inference.system_calls import embed
from prompts.intents import arithmetic, upkeep
from prompts.intents.arithmetic import Vector
from prompts.models import DocumentEmbedding, EmbeddingModel, IntentPattern
from prompts.models.intents import DIMENSIONS
from prompts.search import vectors
from quotas.meters import Resource

log = structlog.get_logger(__name__)

# One at a time; the database frees the lock when whoever holds it is gone.
LOCK = 0x5EED_0013

Say = Callable[[str, int, int], None]
Patterns = dict[UUID, tuple[str, Vector]]


def reembed(name: str, say: Say) -> None:
    """Make `name` the active embedding model. `say` gets what is being embedded, how many are done, and of how many.

    Raises `ModelNotFound` and `UpstreamError`, with nothing lost, and `Conflict` if somebody else does the same.
    """
    routes_for(name, Resource.EMBEDDING)
    with _alone():
        active = vectors.active_model()
        model = active if active.name == name else _begun(name)
        _embed_documents(model, say)
        if model != active:
            patterns = _embedded_patterns(name, say)
            while not _activate(model, patterns):
                _embed_documents(model, say)


def _begun(name: str) -> EmbeddingModel:
    """The model, with a row for each document, in the place of any other that was begun or replaced.

    What a stopped run had claimed is free: only we embed for this model.
    """
    EmbeddingModel.objects.filter(is_active=False).exclude(name=name).delete()
    model = vectors.add_model(name)
    # What was replaced a moment ago, and is wanted again, is no longer on its way out.
    EmbeddingModel.objects.filter(pk=model.pk).update(replaced_at=None)
    vectors.fill(model)
    DocumentEmbedding.objects.waiting().filter(model=model).update(claimed_until=None)
    return model


def _embed_documents(model: EmbeddingModel, say: Say) -> None:
    rows = DocumentEmbedding.objects.filter(model=model)
    waiting, count = rows.waiting().count(), rows.count()
    say("documents", count - waiting, count)
    while done := vectors.embed_some(model, vectors.BATCH):
        waiting -= done
        say("documents", count - max(waiting, 0), count)


def _embedded_patterns(name: str, say: Say) -> Patterns:
    """All patterns with the texts that were embedded, and their vectors."""
    texts = list(IntentPattern.objects.order_by("id").values_list("id", "text"))
    found: Patterns = {}
    say("patterns", 0, len(texts))
    for start in range(0, len(texts), vectors.BATCH):
        some = texts[start : start + vectors.BATCH]
        rows = embed(texts=[text for _id, text in some], model=name, dimensions=DIMENSIONS)
        directions = arithmetic.unit(np.asarray(rows, dtype=np.float32))
        found |= {key: (text, direction) for (key, text), direction in zip(some, directions, strict=True)}
        say("patterns", len(found), len(texts))
    return found


def _activate(model: EmbeddingModel, patterns: Patterns) -> bool:
    """Let searches and the classification go by the new vectors; False if a document has no new one in its place."""
    with transaction.atomic():
        list(EmbeddingModel.objects.order_by("id").select_for_update(no_key=True).values_list("pk"))
        if _lagging(model):
            return False
        EmbeddingModel.objects.filter(is_active=True).update(is_active=False, replaced_at=timezone.now())
        EmbeddingModel.objects.filter(pk=model.pk).update(is_active=True)
        # In the order of their ids, as all who embed patterns lock them.
        for key, (text, direction) in sorted(patterns.items()):
            # Whose text was changed meanwhile waits for a worker.
            IntentPattern.objects.filter(pk=key, text=text).update(
                embedding=direction, embedding_model=model.name, claimed_until=None, updated_at=Now()
            )
        _learn(model)
    return True


def _lagging(model: EmbeddingModel) -> bool:
    """Whether a document can be found by its old vector and could not be by a new one.

    Those that the new model refuses do not hold up all others.
    """
    soon = timezone.now() + vectors.CLAIM
    own = DocumentEmbedding.objects.filter(document=OuterRef("document"), model=model)
    done = own.exclude(embedding=None) | own.filter(claimed_until__gt=soon)
    others = DocumentEmbedding.objects.exclude(model=model).exclude(embedding=None)
    return others.filter(~Exists(done)).exists()


def _learn(model: EmbeddingModel) -> None:
    """Train a classifier on the new vectors, before anybody sees them."""
    try:
        upkeep.request_training(by=None)
    except Conflict:
        # A worker trains now, on the old ones. It will do so again, as the patterns have changed.
        log.info("classifier_learns_later", model=model.name)
        return
    upkeep.train_pending()


@contextmanager
def _alone() -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [LOCK])
        if not cursor.fetchone()[0]:
            raise Conflict("Somebody else makes new vectors just now.", code="reembedding")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [LOCK])
