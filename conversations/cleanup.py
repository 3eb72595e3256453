"""Conversations that are over."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.db.models import Exists, OuterRef, Q, QuerySet

from accounts.cleanup import Chore, delete
from conversations.models import Conversation, Message
from conversations.partitions import shifted
from quotas.models import Plan, Subscription


def _deleted(now: datetime) -> QuerySet[Conversation]:
    return Conversation.objects.filter(deleted_at__lte=now - timedelta(days=settings.CONVERSATION_PURGE_DAYS))


def _outlived(now: datetime) -> QuerySet[Conversation]:
    """Those in which nothing was said for longer than their user's plan keeps them."""
    due = Q(pk__in=())
    for plan in Plan.objects.exclude(conversation_retention_days=None):
        kept = now - timedelta(days=plan.conversation_retention_days or 0)
        due |= Q(last_activity__lte=kept) & _is_on(plan)
    return Conversation.objects.filter(due)


def _is_on(plan: Plan) -> Q:
    """Also where the plan is not paid for just now: what is deleted does not come back with the money."""
    live = Subscription.objects.live()
    nobodys = ~Q(user_id__in=live.values("user_id")) if plan.is_default else Q(pk__in=())
    return Q(user_id__in=live.filter(plan=plan).values("user_id")) | nobodys


def _dropped(now: datetime) -> QuerySet[Conversation]:
    """Those whose messages went with their months."""
    if not settings.MESSAGE_RETENTION_MONTHS:
        return Conversation.objects.none()
    first_kept = shifted(now.astimezone(UTC).date().replace(day=1), -settings.MESSAGE_RETENTION_MONTHS)
    silent = Conversation.objects.filter(last_activity__lt=datetime(first_kept.year, first_kept.month, 1, tzinfo=UTC))
    return silent.exclude(Exists(Message.objects.filter(conversation=OuterRef("pk"))))


CHORES = (
    Chore("conversations purged that were deleted CONVERSATION_PURGE_DAYS ago", _deleted, delete),
    Chore("conversations purged that outlived what their user's plan keeps", _outlived, delete),
    Chore("conversations purged whose messages were dropped with their months", _dropped, delete),
)
