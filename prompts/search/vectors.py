"""The vectors of documents, which workers make in the background.

A row without a vector is the work to be done, and its claim. Any number of workers may take of it: each claims rows by
`SKIP LOCKED`, and what a lost worker had claimed is free again after a while. A document that changes meanwhile loses
the claim, and the vector of its old text finds no row to go to.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import structlog
from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q
from django.utils import timezone

from accounts.exceptions import DomainError
from inference.exceptions import UpstreamRefused
from inference.system_calls import embed
from prompts.intents import arithmetic
from prompts.models import DocumentEmbedding, EmbeddingModel
from prompts.models.intents import DIMENSIONS
from prompts.models.search import SLOTS

log = structlog.get_logger(__name__)

BATCH = 64
CLAIM = timedelta(minutes=10)
# Models read a few thousand tokens of a text; its beginning says what it is about.
MOST_CHARACTERS = 8_000
# A text that the model server refuses is offered again after so long.
REFUSED_FOR = timedelta(days=1)
# Searches that began before a model was replaced, and pages that follow theirs, still find its vectors.
KEPT_AFTER = timedelta(minutes=15)

Rows = dict[int, str]


def tend(now: datetime | None = None) -> None:
    """Embed the documents that wait for it, and drop what was replaced. Raises `DomainError` if the model fails."""
    drop_replaced(now or timezone.now())
    model = active_model()
    while embed_some(model):
        pass


def active_model() -> EmbeddingModel:
    """The model that queries are embedded by. The first time, it is the one of the settings."""
    found = EmbeddingModel.objects.filter(is_active=True).first()
    if found is not None:
        return found
    with transaction.atomic():
        model = add_model(settings.EMBEDDING_MODEL)
        fill(model)
    return EmbeddingModel.objects.get(is_active=True)


def add_model(name: str) -> EmbeddingModel:
    """A model, in the slot that is free, if there is none of that name yet. The first one is active at once.

    From when this is committed, every document that is written waits for a vector by it, too.
    """
    with transaction.atomic():
        _wait_for_writers()
        models = EmbeddingModel.objects.all()
        found = models.filter(name=name).first()
        if found is not None:
            return found
        used = list(models.values_list("slot", flat=True))
        return models.create(name=name, slot=next(slot for slot in SLOTS if slot not in used), is_active=not used)


def fill(model: EmbeddingModel) -> int:
    """Let all documents wait for a vector of a model that do not yet, and have none; how many there were."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO prompts_documentembedding (document_id, model_id, slot) "
            "SELECT id, %s, %s FROM prompts_searchdocument ORDER BY id ON CONFLICT (document_id, model_id) DO NOTHING",
            [model.pk, model.slot],
        )
        return int(cursor.rowcount)


def embed_some(model: EmbeddingModel, most: int = BATCH) -> int:
    """Embed some of the documents that wait for it; how many there were. Raises `ModelNotFound`, `UpstreamError`."""
    until = timezone.now() + CLAIM
    claimed = _claim(model, until, most)
    if not claimed:
        return 0
    try:
        _embed(model, claimed, until)
    except DomainError:
        DocumentEmbedding.objects.waiting().filter(pk__in=claimed, claimed_until=until).update(claimed_until=None)
        raise
    return len(claimed)


def drop_replaced(now: datetime) -> int:
    """Delete models that were replaced a while ago, and their vectors; how many models there were."""
    return EmbeddingModel.objects.filter(replaced_at__lte=now - KEPT_AFTER).delete()[0]


def _wait_for_writers() -> None:
    """Until the transaction ends, nobody else writes documents; those that others write are committed."""
    with connection.cursor() as cursor:
        cursor.execute("LOCK TABLE prompts_searchdocument IN SHARE ROW EXCLUSIVE MODE")


def _claim(model: EmbeddingModel, until: datetime, most: int) -> Rows:
    """The texts of documents that nobody else embeds until the claim ends."""
    free = DocumentEmbedding.objects.waiting().filter(
        Q(claimed_until=None) | Q(claimed_until__lte=timezone.now()), model=model
    )
    with transaction.atomic():
        rows = free.order_by("id").select_for_update(no_key=True, skip_locked=True, of=("self",))
        claimed = {
            key: f"{title}\n{body}".strip()[:MOST_CHARACTERS]
            for key, title, body in rows.values_list("pk", "document__title", "document__body")[:most]
        }
        DocumentEmbedding.objects.filter(pk__in=claimed).update(claimed_until=until)
    return claimed


def _embed(model: EmbeddingModel, claimed: Rows, until: datetime) -> None:
    """Embed what was claimed. If the model server refuses it, the texts go one by one, and those at fault wait."""
    try:
        vectors = embed(texts=list(claimed.values()), model=model.name, dimensions=DIMENSIONS)
    except UpstreamRefused as refusal:
        if len(claimed) > 1:
            for key, text in claimed.items():
                _embed(model, {key: text}, until)
            return
        log.warning("document_not_embedded", model=model.name, reason=str(refusal))
        postponed = timezone.now() + REFUSED_FOR
        DocumentEmbedding.objects.waiting().filter(pk__in=claimed, claimed_until=until).update(claimed_until=postponed)
        return
    directions = arithmetic.unit(np.asarray(vectors, dtype=np.float32))
    rows = DocumentEmbedding.objects.waiting().filter(claimed_until=until)
    with transaction.atomic():
        # Whoever changes a document now has locked its row, and will have emptied it.
        ours = rows.filter(pk__in=claimed).order_by("id").select_for_update(no_key=True, skip_locked=True, of=("self",))
        kept = set(ours.values_list("pk", flat=True))
        for key, direction in zip(claimed, directions, strict=True):
            if key in kept:
                rows.filter(pk=key).update(embedding=direction, claimed_until=None)
