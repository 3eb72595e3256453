"""A person's own data, to take away."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpRequest, StreamingHttpResponse
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.views import APIView

from accounts import audit
from accounts.caller import Caller
from accounts.downloads import download
from accounts.exceptions import NotFound
from accounts.exporting import exported
from accounts.models import User
from accounts.scopes import Scope
from accounts.views import caller_of


class ExportView(APIView):
    """All that the caller has here, as one JSON object."""

    scope = Scope.ADMIN
    read_suffices = False

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
    name = f"mainstay-export-{user_id}-{timezone.now():%Y-%m-%d}.json"
    return download(request, exported(user_id), name=name, content_type="application/json")
