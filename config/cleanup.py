"""All chores of the installation, in the order in which they are done."""

from __future__ import annotations

from django.utils import timezone

from accounts import cleanup as accounts
from conversations import cleanup as conversations
from quotas import cleanup as quotas

CHORES = (*accounts.CHORES, *quotas.CHORES, *conversations.CHORES)


def clean_up(*, dry_run: bool = False) -> dict[str, int]:
    """Do every chore; for each, how many rows it dealt with, or with `dry_run` would deal with."""
    now = timezone.now()
    return {chore.what: chore.due(now).count() if dry_run else chore.run(now) for chore in CHORES}
