from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param
from rest_framework.views import APIView

from accounts.scopes import Scope
from accounts.views import caller_of
from conversations.search import Asked, Filters, search
from conversations.search_serializers import FoundMessagesSerializer, MessageSearchQuerySerializer

FILTERS = tuple(Filters.__dataclass_fields__)


class SearchView(APIView):
    """What was said in the caller's conversations."""

    scope = Scope.CONVERSATIONS

    @extend_schema(
        operation_id="conversations_search",
        parameters=[MessageSearchQuerySerializer],
        responses=FoundMessagesSerializer,
    )
    def get(self, request: Request) -> Response:
        """Messages that have the words, on every branch, best first."""
        serializer = MessageSearchQuerySerializer(data=request.query_params)
        serializer.is_valid(raise_exception=True)
        query = serializer.validated_data
        filters = Filters(**{name: query.get(name) for name in FILTERS})
        found = search(Asked(caller_of(request).user_id, query["q"], query["limit"], filters), query.get("cursor", ""))
        if found["next"] is not None:
            found["next"] = replace_query_param(request.build_absolute_uri(), "cursor", found["next"])
        return Response(FoundMessagesSerializer(found).data)
