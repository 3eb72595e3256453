"""What has expired in quotas."""

from __future__ import annotations

from datetime import datetime

from django.db.models import QuerySet

from accounts.cleanup import Chore, delete
from quotas.models import IdempotencyRecord


def _expired_answers(now: datetime) -> QuerySet[IdempotencyRecord]:
    return IdempotencyRecord.objects.filter(expires_at__lte=now)


CHORES = (Chore("answers forgotten whose idempotency key has expired", _expired_answers, delete),)
