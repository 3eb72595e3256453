"""The pools that usage is drawn from: what a period begins with, and grants. The first to expire is spent first.

Calls know only the sum, a quota's `limit`. How much of it came from which pool matters when a pool expires, comes or
changes; only then is it worked out, by these functions, on rows that the caller has locked. What was used since the
last time was used while all pools were open, so it is drawn from them in the order in which they expire. What no pool
covers waits for the next one (overage, or a limit that was lowered); a new period forgets it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from quotas.meters import period_end
from quotas.models import Grant, Quota

NEVER = datetime.max.replace(tzinfo=UTC)


def roll(quota: Quota, grants: Sequence[Grant], now: datetime) -> None:
    """Bring a quota to `now`: draw what was used, close spent and expired grants, begin a new period if one is over.

    `grants` are the quota's open ones. Both are changed in place.
    """
    draw(quota, grants)
    for grant in grants:
        if grant.remaining and (grant.expires_at or NEVER) > now:
            continue
        grant.closed_at = now
        quota.granted -= grant.remaining
    if quota.reset_date is not None and quota.reset_date <= now:
        quota.current_usage = quota.base_used = 0
        quota.granted = _left(still_open(grants))
        quota.reset_date = period_end(quota.period, now, quota.anchored_at)
    quota.grants_expire_at = min((at for grant in still_open(grants) if (at := grant.expires_at)), default=None)
    fit(quota)


def draw(quota: Quota, grants: Sequence[Grant]) -> None:
    """Draw what was used since the last time from the open pools."""
    quota.base_used = min(quota.base_used, quota.base_limit)
    loose = quota.current_usage - quota.base_used - (quota.granted - _left(grants))
    pools: list[_Base | _Granted] = [_Base(quota), *map(_Granted, grants)]
    for pool in sorted(pools, key=lambda pool: pool.expires_at):
        taken = max(0, min(loose, pool.room))
        pool.take(taken)
        loose -= taken


def fit(quota: Quota) -> None:
    """Let the limit be what the pools give, but never under what is used and held."""
    quota.limit = quota.base_limit + quota.granted
    if not quota.overage_allowed:
        quota.limit = max(quota.limit, quota.current_usage + quota.held)


def still_open(grants: Iterable[Grant]) -> list[Grant]:
    return [grant for grant in grants if grant.closed_at is None]


def _left(grants: Iterable[Grant]) -> int:
    return sum(grant.remaining for grant in grants)


@dataclass(frozen=True, slots=True)
class _Base:
    quota: Quota

    @property
    def expires_at(self) -> datetime:
        return self.quota.reset_date or NEVER

    @property
    def room(self) -> int:
        return self.quota.base_limit - self.quota.base_used

    def take(self, amount: int) -> None:
        self.quota.base_used += amount


@dataclass(frozen=True, slots=True)
class _Granted:
    grant: Grant

    @property
    def expires_at(self) -> datetime:
        return self.grant.expires_at or NEVER

    @property
    def room(self) -> int:
        return self.grant.remaining

    def take(self, amount: int) -> None:
        self.grant.spent += amount
