"""What somebody wants who writes a text: the answer, and what it is made from.

A text that is a pattern word for word has that pattern's intent. Any other is embedded on the metered road and held
against the active classifier and the nearest patterns. Where that cannot be, its words decide, and the answer says so.
"""

from __future__ import annotations

import hashlib
import unicodedata
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

import numpy as np
import orjson
from django.conf import settings
from django.db.models import Max
from pgvector import HalfVector
from pgvector.django import CosineDistance
from redis import RedisError

from accounts.caller import Caller
from accounts.exceptions import InvalidInput
from accounts.snapshots import redis_client
from inference import services as inference
from inference.services import Call, Status
from inference.system_calls import checked_vectors
from prompts.intents import arithmetic
from prompts.intents.arithmetic import Calibration
from prompts.intents.learned import FORMAT, Features, Learned
from prompts.intents.words import Match, WordIndex
from prompts.models import IntentClassifier, IntentPattern
from prompts.models.intents import DIMENSIONS, UNKNOWN
from quotas.idempotency import JSON_HEADERS, Answer, Claim
from quotas.meters import Resource

CACHE_SECONDS = 3600
MOST_CHARACTERS = 10_000
SHOWN = 5
CANDIDATES = 3
# Below this share of common words, a text is like none of the patterns.
LEAST_WORDS = 0.3

# Letters and a symbol by their category, without anything to see: those of Hangul and Braille.
FILLERS = "\u115f\u1160\u2800\u3164\uffa0"

NOT_TRAINED = "not_trained"
NO_EMBEDDING = "embedding_unavailable"
NO_QUOTA = "quota_exceeded"

Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Basis:
    """What answers are made from now: the active classifier, if any, and when a pattern was changed last."""

    classifier_id: UUID | None
    version: int | None
    embedding_model: str
    changed_at: datetime | None

    def key(self, text: str) -> str:
        """Where the answer about a text is cached; another one after any change."""
        digest = hashlib.sha256(text.encode()).hexdigest()
        return f"intent:{self.version or 0}:{self.changed_at.timestamp() if self.changed_at else 0}:{digest}"


@dataclass(slots=True)
class Classification:
    """A call that embeds a text. What its vector says is found out when it is settled, in the same thread."""

    call: Call
    text: str
    basis: Basis
    result: Result | None = None

    def settle(self) -> None:
        outcome = self.call.outcome
        if outcome.status == Status.SUCCESS:
            # A settlement that is tried again finds the result in the place of the vector.
            self.result = self.result or by_vector(self.text, outcome.response["data"][0]["embedding"], self.basis)
            # The history keeps what was answered instead of 512 numbers.
            outcome.response = self.result
            if self.call.claim is not None:
                outcome.answer = Answer(200, JSON_HEADERS, orjson.dumps(self.result))
        inference.settle(self.call)
        if self.result is not None:
            _remember(self.text, self.basis, self.result)


def checked_text(payload: dict[str, Any]) -> str:
    """The field `text`; `InvalidInput` if it is none, empty or too long."""
    text = payload.get("text")
    if not isinstance(text, str):
        raise InvalidInput("`text` must be a text.", param="text", code="invalid_type")
    if not any(map(_is_seen, text)):
        raise InvalidInput("`text` is empty.", param="text", code="blank")
    if len(text) > MOST_CHARACTERS:
        raise InvalidInput(f"`text` may have at most {MOST_CHARACTERS:,} characters.", param="text", code="too_long")
    return text.strip()


def _is_seen(character: str) -> bool:
    """Not white space, nor what only formats or marks other characters."""
    return unicodedata.category(character)[0] in "LNPS" and character not in FILLERS


def current_basis() -> Basis:
    """A classifier of another format counts as none, until a worker has trained one anew."""
    serving = IntentClassifier.objects.filter(is_active=True, weights_format=FORMAT)
    active = serving.values_list("id", "version", "embedding_model").first()
    changed_at = IntentPattern.objects.aggregate(at=Max("updated_at"))["at"]
    classifier_id, version, embedding_model = active or (None, None, "")
    return Basis(classifier_id, version, embedding_model, changed_at)


def without_call(text: str, basis: Basis) -> Result | None:
    """The answer, if it takes no vector: a cached one, that of a pattern itself, or by words if nothing is trained."""
    cached = _cached(text, basis)
    if cached is not None:
        return cached
    taught = IntentPattern.objects.active().filter(text=text).order_by("-updated_at").first()
    if taught is not None:
        nearest = [{"text": taught.text, "intent": taught.intent, "similarity": 1.0}]
        return _result("example", basis, [(taught.intent, 1.0)], nearest, is_unknown=False)
    return by_words(text, basis, NOT_TRAINED) if basis.classifier_id is None else None


def open_classification(*, caller: Caller, text: str, basis: Basis, claim: Claim | None) -> Classification:
    """Open the call that embeds a text, as the caller's; it has EMBEDDING_SECONDS, since words can do without it.

    Raises what `inference.services.open_call` raises.
    """
    payload = {
        "model": basis.embedding_model,
        "input": text,
        "dimensions": DIMENSIONS,
        "encoding_format": "float",
    }
    call = inference.open_call(
        caller=caller,
        kind=Resource.EMBEDDING,
        payload=payload,
        claim=claim,
        most_seconds=settings.EMBEDDING_SECONDS,
    )
    return Classification(call, text, basis)


def one_vector(answer: dict[str, Any]) -> dict[str, Any]:
    """What the model server answered, if it is one vector; else `UpstreamError`, and the next route is tried."""
    return checked_vectors(answer, 1, DIMENSIONS)


def by_vector(text: str, vector: list[float], basis: Basis) -> Result:
    """The answer by the active classifier and the nearest patterns."""
    assert basis.classifier_id is not None
    loaded = _loaded(basis.classifier_id)
    if loaded is None:  # another version is active by now, and this one was tidied away
        return by_words(text, basis, NOT_TRAINED)
    learned, calibration = loaded
    direction = arithmetic.unit(np.asarray(vector, dtype=np.float32))
    neighbours = _neighbours(direction, basis.embedding_model)
    names = [*learned.intents, *sorted({row[0] for row in neighbours} - set(learned.intents))]
    places = {name: at for at, name in enumerate(names)}
    logits = np.full((1, len(names)), np.nan)
    logits[0, : len(learned.intents)] = learned.logits(Features.of(direction[np.newaxis], [text]))[0]
    labels = [places[row[0]] for row in neighbours]
    near = arithmetic.nearness([row[2] for row in neighbours], labels, len(names))[np.newaxis]
    chances = arithmetic.chances(arithmetic.blend(logits, near, calibration), calibration)[0]
    best = [(names[at], float(chances[at])) for at in np.argsort(-chances)[:CANDIDATES]]
    nearest = [
        {"text": pattern, "intent": intent, "similarity": round(similarity, 4)}
        for intent, pattern, similarity in neighbours[:SHOWN]
    ]
    return _result("blend", basis, best, nearest, is_unknown=best[0][1] < calibration.threshold)


def by_words(text: str, basis: Basis, reason: str) -> Result:
    """The answer by common words, and why it is no better."""
    matches = _word_index(basis.changed_at).nearest(text)
    sums: dict[str, float] = {}
    for match in matches:
        sums[match.pattern.intent] = sums.get(match.pattern.intent, 0.0) + match.similarity
    whole = sum(sums.values()) or 1.0
    most = max((match.similarity for match in matches), default=0.0)
    best = sorted(((name, most * part / whole) for name, part in sums.items()), key=lambda one: -one[1])[:CANDIDATES]
    nearest = [_shown(match) for match in matches]
    return _result("words", basis, best, nearest, is_unknown=most < LEAST_WORDS, reason=reason)


def _result(
    method: str,
    basis: Basis,
    best: list[tuple[str, float]],
    nearest: list[Result],
    *,
    is_unknown: bool,
    reason: str | None = None,
) -> Result:
    return {
        "intent": UNKNOWN if is_unknown or not best else best[0][0],
        "confidence": round(best[0][1], 4) if best else 0.0,
        "is_unknown": is_unknown,
        "method": method,
        "is_fallback": reason is not None,
        "fallback_reason": reason,
        "candidates": [{"intent": intent, "confidence": round(chance, 4)} for intent, chance in best],
        "nearest": nearest,
        "classifier_version": basis.version,
    }


def _shown(match: Match) -> Result:
    return {
        "text": match.pattern.text,
        "intent": match.pattern.intent,
        "similarity": round(match.similarity, 4),
    }


def _neighbours(direction: arithmetic.Vector, model: str) -> list[tuple[str, str, float]]:
    """Intents, texts and cosine similarities of the nearest patterns, nearest first."""
    distance = CosineDistance("embedding", HalfVector(direction))
    rows = IntentPattern.objects.embedded_by(model).annotate(distance=distance).order_by("distance")
    found = rows.values_list("intent", "text", "distance")[: arithmetic.NEIGHBOURS]
    return [(intent, text, 1 - distance) for intent, text, distance in found]


@lru_cache(maxsize=2)
def _loaded(classifier_id: UUID) -> tuple[Learned, Calibration] | None:
    """A version's weights; they never change, so each process reads them once."""
    found = IntentClassifier.objects.filter(pk=classifier_id).first()
    if found is None or found.weights is None:
        return None
    return Learned.from_bytes(found.classes, bytes(found.weights)), Calibration(**found.calibration)


@lru_cache(maxsize=1)
def _word_index(changed_at: datetime | None) -> WordIndex:
    """Of all active patterns, made anew by each process after a change."""
    return WordIndex.of(IntentPattern.objects.active().values_list("intent", "text"))


def forget() -> None:
    """Drop what this process has loaded, for tests."""
    _loaded.cache_clear()
    _word_index.cache_clear()


def _cached(text: str, basis: Basis) -> Result | None:
    client = redis_client()
    try:
        found = None if client.is_away else client.get(basis.key(text))
        return orjson.loads(found) if isinstance(found, bytes) else None
    except RedisError:
        return None


def _remember(text: str, basis: Basis, result: Result) -> None:
    client = redis_client()
    try:
        if not client.is_away:
            client.set(basis.key(text), orjson.dumps(result), ex=CACHE_SECONDS)
    except RedisError:
        return
