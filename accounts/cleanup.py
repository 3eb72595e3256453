"""What has expired in accounts, and what becomes of it. Nothing here takes a right from anybody: time has done that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from axes.models import AccessAttempt
from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet

from accounts import audit
from accounts.models import ApiKey, BlacklistedToken, OneTimeCode, Session

BATCH = 1000
SESSIONS_KEPT = timedelta(days=30)
# So that a late click on a link is told what happened.
CODES_KEPT = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Chore:
    """One kind of rows that are over: which are `due` at an instant, and how they are dealt with.

    `clear` gets some of the due rows, answers how many of them it dealt with, and leaves them no longer due.
    """

    what: str
    due: Callable[[datetime], QuerySet[Any]]
    clear: Callable[[QuerySet[Any]], int]

    def run(self, now: datetime) -> int:
        """Deal with all rows that are due at `now`, some at a time; how many there were."""
        total = 0
        while chosen := list(self.due(now).order_by("pk").values_list("pk", flat=True)[:BATCH]):
            with transaction.atomic():
                total += self.clear(self.due(now).filter(pk__in=chosen))
        return total


def delete(rows: QuerySet[Any]) -> int:
    """How many of the rows themselves were deleted, without what hung on them."""
    _total, by_model = rows.delete()
    return by_model.get(rows.model._meta.label, 0)


def _expired_keys(now: datetime) -> QuerySet[ApiKey]:
    return ApiKey.objects.filter(is_active=True, expires_at__lte=now)


def _switch_off(keys: QuerySet[ApiKey]) -> int:
    """The rows stay: the request history points at them."""
    count = keys.update(is_active=False)
    if count:
        audit.record("api_key.expired", by=None, keys=count)
    return count


def _outlived_texts(now: datetime) -> QuerySet[ApiKey]:
    return ApiKey.objects.filter(previous_expires_at__lte=now)


def _blank_previous(keys: QuerySet[ApiKey]) -> int:
    return keys.update(previous_prefix=None, previous_key_hash="", previous_expires_at=None)


def _ended_sessions(now: datetime) -> QuerySet[Session]:
    """A revoked one is kept until its last token has expired, too, so that no token outlives it."""
    end = now - SESSIONS_KEPT
    return Session.objects.filter(Q(expires_at__lte=end) | Q(revoked_at__lte=end), expires_at__lte=now)


def _spent_codes(now: datetime) -> QuerySet[OneTimeCode]:
    end = now - CODES_KEPT
    return OneTimeCode.objects.filter(Q(used_at__lte=end) | Q(expires_at__lte=end))


def _expired_tokens(now: datetime) -> QuerySet[BlacklistedToken]:
    return BlacklistedToken.objects.filter(expires_at__lte=now)


def _forgotten_failures(now: datetime) -> QuerySet[Any]:
    attempts: QuerySet[Any] = AccessAttempt.objects.filter(attempt_time__lte=now - settings.AXES_COOLOFF_TIME)
    return attempts


CHORES = (
    Chore("expired API keys switched off", _expired_keys, _switch_off),
    Chore("texts of rotated API keys forgotten after their overlap", _outlived_texts, _blank_previous),
    Chore("counts of wrong passwords deleted that lock nobody any more", _forgotten_failures, delete),
    Chore("revoked tokens deleted that have expired meanwhile", _expired_tokens, delete),
    Chore(f"sessions deleted that ended {SESSIONS_KEPT.days} days ago", _ended_sessions, delete),
    Chore(f"one-time codes deleted that were used or expired {CODES_KEPT.days} days ago", _spent_codes, delete),
)
