"""Idempotency keys: who sends a call again gets the answer of the first time, and is charged once.

The record of a key is written in the transaction of the call's hold and ended in that of its charge. What was charged
is kept with its answer; what cost nothing frees its key, so that the next attempt is a real one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection
from django.utils import timezone

from accounts.ids import uuid7
from accounts.merging import current_id
from quotas.exceptions import AnswerNotKept, IdempotencyKeyInUse, IdempotencyMismatch
from quotas.models import IdempotencyRecord
from quotas.services.holds import holding

Status = IdempotencyRecord.Status

HEADER = "Idempotency-Key"
JSON_HEADERS = {"Content-Type": "application/json"}

# Two at once: the second waits for the first one's commit. A record that has expired is taken over.
CLAIM = """
INSERT INTO quotas_idempotencyrecord AS r
    (id, user_id, key, endpoint, fingerprint, status, headers, created_at, expires_at)
VALUES (%(id)s, %(user_id)s, %(key)s, %(endpoint)s, %(fingerprint)s, 'running', '{}', %(now)s, %(expires_at)s)
ON CONFLICT (user_id, key) DO UPDATE
SET id = excluded.id, endpoint = excluded.endpoint, fingerprint = excluded.fingerprint, status = 'running',
    response_status = NULL, headers = '{}', body = NULL, created_at = excluded.created_at,
    expires_at = excluded.expires_at
WHERE r.expires_at <= excluded.created_at
RETURNING r.id
"""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A call to which its caller has given a key. Another call has another fingerprint."""

    key: str
    endpoint: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Claim:
    """That a key belongs to this call. `id` is meant for its reservation, too."""

    id: UUID
    key: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What a caller was sent, and will be sent again."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class AnsweredBefore(Exception):
    """The call was carried out before. Nothing is done now; this is what its caller gets."""

    def __init__(self, answer: Answer) -> None:
        super().__init__("The call was answered before.")
        self.answer = answer


@contextmanager
def claimed(*, user_id: UUID, attempt: Attempt | None) -> Iterator[Claim | None]:
    """A transaction in which the attempt's key is the call's, and is free again if it fails; without one, nothing.

    Raises what `claim` raises; then nothing has been written.
    """
    if attempt is None:
        yield None
        return
    with holding():
        yield claim(user_id=user_id, attempt=attempt)


def claim(*, user_id: UUID, attempt: Attempt) -> Claim:
    """Make the attempt's key the call's, in a transaction of the caller's; `finish` or `free` it there or later.

    Raises `AnsweredBefore`, `IdempotencyMismatch`, `IdempotencyKeyInUse` and `AnswerNotKept`.
    """
    now = timezone.now()
    values: dict[str, Any] = {
        "id": uuid7(),
        "user_id": user_id,
        "key": attempt.key,
        "endpoint": attempt.endpoint,
        "fingerprint": attempt.fingerprint,
        "now": now,
        "expires_at": now + timedelta(hours=settings.IDEMPOTENCY_HOURS),
    }
    with connection.cursor() as cursor:
        cursor.execute(CLAIM, values)
        if cursor.fetchone():
            return Claim(values["id"], attempt.key)
    # The statement has locked the row that was in its way, so it is still there.
    raise _refusal(IdempotencyRecord.objects.get(user_id=current_id(user_id), key=attempt.key), attempt)


def look(*, user_id: UUID, attempt: Attempt | None) -> None:
    """Raise what `claim` would raise for a key that has been used, and claim nothing: for what costs before a claim."""
    if attempt is None:
        return
    used = IdempotencyRecord.objects.filter(user_id=current_id(user_id), key=attempt.key)
    found = used.filter(expires_at__gt=timezone.now()).first()
    if found is not None:
        raise _refusal(found, attempt)


def _refusal(found: IdempotencyRecord, attempt: Attempt) -> Exception:
    if found.fingerprint != attempt.fingerprint:
        return IdempotencyMismatch(param=HEADER)
    if found.status == Status.RUNNING:
        return IdempotencyKeyInUse(param=HEADER)
    if found.response_status is None or found.body is None:
        return AnswerNotKept(param=HEADER)
    return AnsweredBefore(Answer(found.response_status, found.headers, bytes(found.body)))


def finish(claim_id: UUID, answer: Answer) -> None:
    """Keep the answer of a call, in the transaction of its charge; of one that is too large, only that there was one.

    Nothing happens to a key that is not the call's any more.
    """
    IdempotencyRecord.objects.filter(pk=claim_id, status=Status.RUNNING).update(
        status=Status.DONE,
        response_status=answer.status,
        headers=dict(answer.headers),
        body=answer.body if len(answer.body) <= settings.IDEMPOTENCY_BYTES else None,
    )


def free(claim_id: UUID) -> None:
    """Let the key of a call go that has ended without a charge."""
    IdempotencyRecord.objects.filter(pk=claim_id, status=Status.RUNNING).delete()


def is_claimed(claim_id: UUID) -> bool:
    """Whether a call with this reservation has a key, which it has not finished."""
    return IdempotencyRecord.objects.filter(pk=claim_id, status=Status.RUNNING).exists()
