"""What a user's plan allows, as each process remembers it for AUTH_SNAPSHOT_SECONDS.

Redis says whether it is still so: any change of a user gives the user a new generation (`accounts.snapshots`), and any
change of a plan gives the plan a new version. While Redis is away, what is remembered counts.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import redis
import structlog
from django.conf import settings
from django.db import transaction

from accounts import snapshots
from quotas.models import Plan, Subscription
from quotas.windows import Rate, rates_by_section

log = structlog.get_logger(__name__)

DEFAULT_PLAN = "default"
MOST_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a user's plan allows by section, until `ends` (monotonic), if what Redis says of `versions` is still so.

    Each section's rates come as they are, and as the script takes them.
    """

    sections: dict[str, tuple[tuple[Rate, ...], bytes]]
    versions: dict[str, str]
    ends: float


_remembered: dict[UUID, Allowance] = {}


def allowance_of(user_id: UUID) -> Allowance:
    """What is remembered of the user's plan, or else read now; without any plan, nothing is limited."""
    found = _remembered.get(user_id)
    if found is not None and found.ends > time.monotonic():
        return found
    # Before the row: a change that comes between the two is then noticed.
    generation = snapshots.generation_of(user_id)
    sections, versions = _read(user_id)
    versions[snapshots.of_generation(user_id)] = generation
    found = Allowance(sections, versions, ends=time.monotonic() + settings.AUTH_SNAPSHOT_SECONDS)
    if len(_remembered) >= MOST_REMEMBERED:
        _remembered.clear()
    _remembered[user_id] = found
    return found


def forget(user_id: UUID) -> None:
    """Read anew, the next time, what the user's plan allows."""
    _remembered.pop(user_id, None)


def forget_all() -> None:
    """Drop what this process remembers; for tests."""
    _remembered.clear()


def packed(rates: Sequence[Rate]) -> bytes:
    """As the script takes them: their number, and size and limit of each."""
    numbers = [number for rate in rates for number in (-rate.size if rate.unit == "tokens" else rate.size, rate.limit)]
    return struct.pack(f"<{1 + len(numbers)}d", len(rates), *numbers)


def publish(*, plan: Plan) -> None:
    """Once the running transaction commits, let every process know that `plan` has changed."""

    def write() -> None:
        row = Plan.objects.filter(pk=plan.pk).values_list("updated_at", "is_default").first()
        if row is None:
            return
        names = [str(plan.pk), *([DEFAULT_PLAN] if row[1] else [])]
        try:
            for name in names:
                # Nobody remembers a plan for longer than half of this.
                ends = 2 * settings.AUTH_SNAPSHOT_SECONDS
                snapshots.redis_client().set(_of_plan(name), _version(plan.pk, row[0]), ex=ends)
        except redis.RedisError:
            log.warning("rate_limits_not_published", plan=plan.slug)

    transaction.on_commit(write)


def _read(user_id: UUID) -> tuple[dict[str, tuple[tuple[Rate, ...], bytes]], dict[str, str]]:
    # One whose plan is not paid for has the default plan's, as `plan_that_counts` says.
    paid = Subscription.objects.live().filter(user_id=user_id, is_suspended=False)
    row = paid.values_list("plan_id", "plan__updated_at", "plan__rate_limits").first()
    name = str(row[0]) if row else DEFAULT_PLAN
    if row is None:
        row = Plan.objects.filter(is_default=True).values_list("pk", "updated_at", "rate_limits").first()
    versions = {_of_plan(name): _version(row[0], row[1])} if row else {}
    by_section = rates_by_section(row[2] if row else {})
    return {section: (rates, packed(rates)) for section, rates in by_section.items()}, versions


def _of_plan(name: str) -> str:
    return f"rate:plan:{name}"


def _version(plan_id: UUID, updated_at: datetime) -> str:
    return f"{plan_id} {updated_at.timestamp()}"
