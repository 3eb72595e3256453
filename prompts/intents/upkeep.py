"""What happens to patterns in the background: they are embedded, and a classifier learns them once they rest.

Any number of workers may do this at once. Each claims what it does by a conditional UPDATE, and what a lost worker had
claimed is free again after a while.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timedelta
from uuid import UUID

import numpy as np
import structlog
from django.db import IntegrityError, transaction
from django.db.models import Max, Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from accounts import audit
from accounts.caller import Caller
from accounts.exceptions import Conflict, DomainError
from inference.system_calls import embed
from prompts.intents import arithmetic
from prompts.intents.learned import FORMAT, Features
from prompts.intents.training import Trained, train
from prompts.models import EmbeddingModel, IntentClassifier, IntentPattern
from prompts.models.intents import DIMENSIONS

log = structlog.get_logger(__name__)

Status = IntentClassifier.Status

BATCH = 64
CLAIM = timedelta(minutes=10)
# Changes come in bunches: training waits until there was none for so long.
REST = timedelta(seconds=20)
# A training that takes longer has lost its worker.
LONGEST_TRAINING = timedelta(minutes=15)
VERSIONS_KEPT = 10


def tend(now: datetime | None = None) -> None:
    """Embed what waits for it, and train if something has changed. Raises `DomainError` if a model fails."""
    give_up_lost()
    while embed_some():
        pass
    request_if_due(now or timezone.now())
    train_pending()


def embed_some(most: int = BATCH) -> int:
    """Embed some of the patterns that wait for it; how many there were. Raises `ModelNotFound`, `UpstreamError`."""
    model = EmbeddingModel.objects.active_name()
    claimed = _claim(model, most)
    if not claimed:
        return 0
    try:
        vectors = embed(texts=list(claimed.values()), model=model, dimensions=DIMENSIONS)
    except DomainError:
        IntentPattern.objects.filter(pk__in=claimed).update(claimed_until=None)
        raise
    directions = arithmetic.unit(np.asarray(vectors, dtype=np.float32))
    with transaction.atomic():
        # In the order of their ids, as they were claimed.
        for (pattern_id, text), direction in zip(claimed.items(), directions, strict=True):
            # Whose text was changed meanwhile waits again.
            IntentPattern.objects.filter(pk=pattern_id, text=text).update(
                embedding=direction, embedding_model=model, claimed_until=None, updated_at=Now()
            )
    return len(claimed)


def _claim(model: str, most: int) -> dict[UUID, str]:
    """The texts of patterns that nobody else embeds until the claim ends, by id."""
    now = timezone.now()
    free = IntentPattern.objects.waiting_for(model).filter(Q(claimed_until=None) | Q(claimed_until__lte=now))
    with transaction.atomic():
        rows = free.order_by("id").select_for_update(no_key=True, skip_locked=True, of=("self",))
        claimed = dict(rows.values_list("id", "text")[:most])
        IntentPattern.objects.filter(pk__in=claimed).update(claimed_until=now + CLAIM)
    return claimed


def request_training(*, by: Caller | None) -> IntentClassifier:
    """Have a new version trained as soon as a worker is free. `Conflict` if that is asked for already."""
    try:
        with transaction.atomic():
            latest = IntentClassifier.objects.aggregate(version=Max("version"))["version"] or 0
            classifier = IntentClassifier.objects.create(version=latest + 1, weights_format=FORMAT)
            if by is not None:
                audit.record("intentclassifier.requested", by=by, target=classifier, version=classifier.version)
    except IntegrityError:
        raise Conflict("A training waits for a worker already.", code="training_pending") from None
    return classifier


def request_if_due(now: datetime) -> bool:
    """Have a new version trained if patterns were changed since the last, all are embedded, and they rest.

    What versions of another format had learned is learned anew.
    """
    patterns = IntentPattern.objects.all()
    changed_at = patterns.aggregate(at=Max("updated_at"))["at"]
    readable = IntentClassifier.objects.filter(weights_format=FORMAT)
    learned_at = readable.aggregate(at=Max("patterns_changed_at"))["at"]
    if changed_at is None or (learned_at is not None and learned_at >= changed_at):
        return False
    if readable.filter(is_active=True).exists() and changed_at > now - REST:
        return False
    if patterns.waiting_for(EmbeddingModel.objects.active_name()).exists() or not patterns.active().exists():
        return False
    try:
        request_training(by=None)
    except Conflict:
        return False
    return True


def train_pending() -> IntentClassifier | None:
    """Train the version that waits for it, and serve with it; None if there is none, or another worker trains."""
    version = IntentClassifier.objects.filter(status=Status.PENDING).first()
    if version is None or not _begin(version):
        return None
    row = IntentClassifier.objects.filter(pk=version.pk, status=Status.TRAINING)
    model = EmbeddingModel.objects.active_name()
    rows = IntentPattern.objects.embedded_by(model).order_by("id").values_list("intent", "text", "embedding")
    known = list(rows)
    vectors = np.array([embedding for _intent, _text, embedding in known], dtype=np.float32)
    features = Features.of(vectors.reshape(len(known), DIMENSIONS), [text for _intent, text, _embedding in known])
    try:
        trained = train(
            features, [intent for intent, _text, _embedding in known], say=lambda percent: _say(row, percent)
        )
    except DomainError as refusal:
        row.update(status=Status.FAILED, error=str(refusal))
    else:
        _activate(version, trained, model)
    version.refresh_from_db()
    return version


def _say(row: QuerySet[IntentClassifier], percent: int) -> None:
    row.update(progress=percent)


def give_up_lost() -> int:
    """Trainings whose worker was lost have failed; how many there were."""
    lost = IntentClassifier.objects.filter(status=Status.TRAINING, started_at__lte=timezone.now() - LONGEST_TRAINING)
    return lost.update(status=Status.FAILED, error="The worker that trained it was lost.")


def _begin(version: IntentClassifier) -> bool:
    """Claim a training. What is changed from now on is for the next."""
    waiting = IntentClassifier.objects.filter(pk=version.pk, status=Status.PENDING)
    changed_at = IntentPattern.objects.aggregate(at=Max("updated_at"))["at"]
    try:
        with transaction.atomic():
            return bool(
                waiting.update(status=Status.TRAINING, started_at=timezone.now(), patterns_changed_at=changed_at)
            )
    except IntegrityError:  # another version is being trained
        return False


def _activate(version: IntentClassifier, trained: Trained, model: str) -> None:
    """Put a version in the place of the one before, unless it was given up meanwhile."""
    with transaction.atomic():
        list(IntentClassifier.objects.order_by("id").select_for_update(no_key=True).values_list("pk"))
        row = IntentClassifier.objects.filter(pk=version.pk, status=Status.TRAINING)
        if not row.exists():
            log.warning("training_given_up", version=version.version)
            return
        IntentClassifier.objects.filter(is_active=True).update(is_active=False)
        row.update(
            status=Status.READY,
            progress=100,
            is_active=True,
            embedding_model=model,
            pattern_count=trained.pattern_count,
            classes=list(trained.learned.intents),
            weights=trained.learned.to_bytes(),
            weights_format=FORMAT,
            calibration=asdict(trained.calibration),
            metrics=trained.metrics,
            trained_at=timezone.now(),
        )
        kept = list(IntentClassifier.objects.order_by("-version").values_list("pk", flat=True)[:VERSIONS_KEPT])
        IntentClassifier.objects.exclude(pk__in=kept).filter(is_active=False, version__lt=version.version).delete()
