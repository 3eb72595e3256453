"""The vector of what somebody looks for: a metered call of the caller's, unless they made it within the last hour."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
import orjson
from django.conf import settings
from redis import RedisError

from accounts.caller import Caller
from accounts.snapshots import redis_client
from inference import services as inference
from inference.services import Call, Status
from prompts.intents import arithmetic
from prompts.intents.arithmetic import Vector
from prompts.models import EmbeddingModel
from prompts.models.intents import DIMENSIONS
from quotas.idempotency import JSON_HEADERS, Answer, Claim
from quotas.meters import Resource

CACHE_SECONDS = 3600

Result = dict[str, Any]


@dataclass(slots=True)
class Question:
    """A call that embeds a text. What its vector finds is looked up when it is settled, in the same thread."""

    call: Call
    text: str
    model: EmbeddingModel
    find: Callable[[Vector], Result]
    result: Result | None = None

    def settle(self) -> None:
        outcome = self.call.outcome
        vector = None
        if outcome.status == Status.SUCCESS and self.result is None:
            vector = arithmetic.unit(np.asarray(outcome.response["data"][0]["embedding"], dtype=np.float32))
            self.result = self.find(vector)
            # The history keeps how much was found instead of 512 numbers.
            outcome.response = {"found": len(self.result["results"])}
            if self.call.claim is not None:
                outcome.answer = Answer(200, JSON_HEADERS, orjson.dumps(self.result))
        inference.settle(self.call)
        if vector is not None:
            remember(self.call.caller.user_id, self.text, self.model, vector)


def open_question(
    *, caller: Caller, text: str, model: EmbeddingModel, find: Callable[[Vector], Result], claim: Claim | None = None
) -> Question:
    """Open the call that embeds a text, as the caller's; it has EMBEDDING_SECONDS, since words can do without it.

    Raises what `inference.services.open_call` raises.
    """
    payload = {"model": model.name, "input": text, "dimensions": DIMENSIONS, "encoding_format": "float"}
    call = inference.open_call(
        caller=caller,
        kind=Resource.EMBEDDING,
        payload=payload,
        claim=claim,
        most_seconds=settings.EMBEDDING_SECONDS,
    )
    return Question(call, text, model, find)


def known_vector(user_id: UUID, text: str, model: EmbeddingModel) -> Vector | None:
    """The vector of a text that this user asked for before; what others asked for costs nobody less."""
    client = redis_client()
    try:
        found = None if client.is_away else client.get(_key(user_id, text, model))
    except RedisError:
        return None
    return np.frombuffer(found, dtype=np.float32) if isinstance(found, bytes) else None


def remember(user_id: UUID, text: str, model: EmbeddingModel, vector: Vector) -> None:
    client = redis_client()
    try:
        if not client.is_away:
            client.set(_key(user_id, text, model), vector.tobytes(), ex=CACHE_SECONDS)
    except RedisError:
        return


def _key(user_id: UUID, text: str, model: EmbeddingModel) -> str:
    return f"question:{user_id}:{model.pk}:{hashlib.sha256(text.encode()).hexdigest()}"
