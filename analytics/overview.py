"""What a user sees first: the account, the plan, the quotas, the last days and the last calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce

from accounts.exceptions import NotFound
from accounts.models import ApiKey, User
from analytics.usage import Usage, usage_of
from conversations.models import Conversation
from inference.models import Request
from prompts.models import SavedPrompt
from quotas import services as quotas
from quotas.models import Quota, Subscription

USAGE_DAYS = 7
RECENT_REQUESTS = 5


@dataclass(frozen=True, slots=True)
class Dashboard:
    """`user` is annotated with how many `keys`, `talks` and `prompts` it has."""

    user: User
    subscription: Subscription | None
    quotas: list[Quota]
    usage: Usage
    recent_requests: list[Request]


def dashboard_of(*, user_id: UUID) -> Dashboard:
    """What a user sees first; `NotFound` if there is no such user."""
    counted = User.objects.annotate(
        keys=_number_of(ApiKey.objects.usable()),
        talks=_number_of(Conversation.objects.alive()),
        prompts=_number_of(SavedPrompt.objects.all()),
    )
    user = counted.filter(pk=user_id).first()
    if user is None:
        raise NotFound("No such user.")
    recent = Request.objects.filter(user_id=user_id).defer("request_data", "response_data")
    return Dashboard(
        user=user,
        # First the quotas: they give a new user a subscription.
        quotas=quotas.current_quotas(user_id=user_id),
        subscription=quotas.current_subscription(user_id=user_id),
        usage=usage_of(user_id=user_id, days=USAGE_DAYS),
        recent_requests=list(recent[:RECENT_REQUESTS]),
    )


def _number_of(rows: QuerySet[Any]) -> Coalesce:
    """How many of `rows` belong to the user of the outer query."""
    counts = rows.filter(user=OuterRef("pk")).order_by().values("user").annotate(number=Count("pk")).values("number")
    return Coalesce(Subquery(counts), 0)
