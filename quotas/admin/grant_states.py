"""What has become of grants."""

from __future__ import annotations

from collections.abc import Iterable

from django.utils import timezone

from quotas import services
from quotas.models import Grant


def state_of(grant: Grant) -> str:
    """What has become of a grant. One whose time is over may not have been closed yet."""
    if not grant.remaining:
        return "spent"
    if grant.expires_at is not None and grant.expires_at <= (grant.closed_at or timezone.now()):
        return "expired"
    return "revoked" if grant.closed_at else "open"


def bring_up_to_date(grants: Iterable[Grant]) -> None:
    """Let grants know how much of them is spent at this moment: stored rows say it when a period ends."""
    open_grants = {grant.pk: grant for grant in grants if grant.closed_at is None}
    quotas = {grant.quota_id: grant.quota for grant in open_grants.values()}
    for _quota, now_open in services.standing(list(quotas.values()), timezone.now()):
        for one in now_open:
            if one.pk in open_grants:
                open_grants[one.pk].spent = one.spent
