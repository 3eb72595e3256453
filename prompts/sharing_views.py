"""What a link shows, to whoever has it."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.scopes import Scope
from accounts.views import caller_of, valid
from prompts.collections import duplicate_collection
from prompts.models import Collection, SavedPrompt
from prompts.saved import duplicate_prompt
from prompts.saved_serializers import (
    CollectionSerializer,
    CopiedSerializer,
    CopySerializer,
    PlacedPromptSerializer,
    SavedPromptSerializer,
    SharedFolderSerializer,
    SharedPromptSerializer,
    SharedSerializer,
)
from prompts.sharing import SharedFolder, open_link

# What was shared a moment ago may not be any more; and the address is as good as a key.
HEADERS = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Robots-Tag": "noindex"}


class SharedPagination(CursorPagination):
    ordering = ("position", "id")
    page_size = 50
    page_size_query_param = "limit"
    max_page_size = 200


class SharedView(APIView):
    """What a link leads to: a prompt, or a collection with a page of the prompts in it. No account is needed."""

    scope = None
    authentication_classes = ()
    anonymous_rate = "RATELIMIT_SHARED"

    @extend_schema(responses=SharedSerializer, auth=[])
    def get(self, request: Request, token: str) -> Response:
        """404 for a link that was revoked, has expired, or is of somebody who is not active any more."""
        link = open_link(token)
        if link.prompt is not None:
            return Response({"type": "prompt", "prompt": SharedPromptSerializer(link.prompt).data}, headers=HEADERS)
        assert link.collection is not None
        return Response(self._page(request, link.collection), headers=HEADERS)

    def _page(self, request: Request, folder: Collection) -> dict[str, Any]:
        shared = SharedFolder(folder)
        paginator = SharedPagination()
        rows: list[SavedPrompt] = paginator.paginate_queryset(shared.prompts(), request, view=self) or []
        prompts = PlacedPromptSerializer(rows, many=True, context={"paths": shared.paths})
        page: dict[str, Any] = paginator.get_paginated_response(prompts.data).data
        described = {
            "name": folder.name,
            "description": folder.description,
            "folders": [path for path in shared.paths.values() if path],
        }
        return {"type": "collection", "collection": SharedFolderSerializer(described).data, **page}


class SharedCopyView(APIView):
    """What a link leads to, copied into the caller's own saved prompts."""

    scope = Scope.PROMPTS

    @extend_schema(request=CopySerializer, responses={201: CopiedSerializer})
    def post(self, request: Request, token: str) -> Response:
        caller, target = caller_of(request), valid(CopySerializer, request).get("collection")
        link, context = open_link(token), {"user_id": caller.user_id}
        copied: dict[str, Any] = {"prompt": None, "collection": None}
        if link.prompt is not None:
            prompt = duplicate_prompt(prompt=link.prompt, by=caller, collection=target)
            copied["prompt"] = SavedPromptSerializer(prompt, context=context).data
        else:
            assert link.collection is not None
            folder = duplicate_collection(folder=link.collection, by=caller, parent=target)
            copied["collection"] = CollectionSerializer(folder, context=context).data
        return Response(copied, status=status.HTTP_201_CREATED)
