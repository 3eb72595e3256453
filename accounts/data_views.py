"""A person's own data, to take away."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from uuid import UUID

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.db import connection
from django.http import HttpRequest, StreamingHttpResponse
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.views import APIView

from accounts import audit
from accounts.caller import Caller
from accounts.exceptions import NotFound
from accounts.exporting import exported
from accounts.models import User
from accounts.views import caller_of


class ExportView(APIView):
    """All that the caller has here, as one JSON object."""

    permission_classes = (IsAuthenticated,)

    @extend_schema(responses={200: OpenApiTypes.OBJECT})
    def get(self, request: Request) -> StreamingHttpResponse:
        caller = caller_of(request)
        return export_response(request._request, user_id=caller.user_id, by=caller)


def export_response(request: HttpRequest, *, user_id: UUID, by: Caller | User) -> StreamingHttpResponse:
    """The export as a download; `NotFound` if there is no such user."""
    user = User.objects.filter(pk=user_id).first()
    if user is None:
        raise NotFound("No such user.")
    audit.record("user.exported", by=by, target=user)
    pieces = exported(user_id)
    name = f"mainstay-export-{user_id}-{timezone.now():%Y-%m-%d}.json"
    return StreamingHttpResponse(
        _from_thread(pieces) if isinstance(request, ASGIRequest) else pieces,
        content_type="application/json",
        headers={"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"},
    )


async def _from_thread(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Each piece is read in the request's thread, whose connection goes back before the piece is sent."""
    while (piece := await sync_to_async(_next)(pieces)) is not None:
        yield piece


def _next(pieces: Iterator[bytes]) -> bytes | None:
    try:
        return next(pieces, None)
    finally:
        connection.close()
