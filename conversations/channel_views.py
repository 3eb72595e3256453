"""Who is there on a channel."""

from __future__ import annotations

from dataclasses import asdict

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.scopes import Scope
from accounts.views import caller_of
from conversations import channels, presence
from conversations.models.channels import CHANNEL_PATTERN
from conversations.serializers import ActiveSerializer

MOST_PEOPLE = 200
SEEING_PEOPLE = "conversations.view_conversation"


class ChannelViewSet(viewsets.ViewSet):
    """Everybody sees how many are there, and operators who they are."""

    scope = Scope.CONVERSATIONS
    lookup_field = "name"
    lookup_value_regex = CHANNEL_PATTERN

    @extend_schema(
        operation_id="channel_active",
        responses=ActiveSerializer,
        parameters=[OpenApiParameter("name", str, OpenApiParameter.PATH, description="Such as `telegram`.")],
    )
    @action(detail=True)
    def active(self, request: Request, name: str) -> Response:
        """How many people were active on a channel within the last five minutes."""
        caller, channel = caller_of(request), channels.known(name).name
        (found,) = presence.of([channel])
        is_active = presence.is_active(channel=channel, user_id=caller.user_id)
        shown = asdict(found) | {"is_active": is_active}
        if caller.has_perm(SEEING_PEOPLE):
            shown["people"] = presence.latest(channel=channel, most=MOST_PEOPLE)
        return Response(ActiveSerializer(shown).data)
