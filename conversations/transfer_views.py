"""Conversations as files: those that go out, and those that come in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any
from uuid import UUID

from django.conf import settings
from django.core.files.base import ContentFile
from django.http import StreamingHttpResponse
from django.utils.datastructures import MultiValueDict
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.parsers import BaseParser, DataAndFiles, MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import audit
from accounts.downloads import download
from accounts.exceptions import InvalidInput
from accounts.scopes import Scope
from accounts.views import caller_of
from conversations.exceptions import ConversationNotFound
from conversations.models import Conversation
from conversations.transfer.exporting import FORMATS, ExportFormat, exported, file_name
from conversations.transfer.formats import Format
from conversations.transfer.importing import import_conversations
from conversations.transfer_serializers import (
    ExportAllQuerySerializer,
    ExportOneQuerySerializer,
    ImportedConversationsSerializer,
    ImportQuerySerializer,
)
from prompts.transfer_views import UPLOAD, OwnFormat


class FileParser(BaseParser):
    """A body that is a file itself, whatever it says it is. The server has refused more than MAX_BODY_BYTES before."""

    media_type = "*/*"

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> DataAndFiles[Any, Any]:
        return DataAndFiles({}, MultiValueDict({"file": [ContentFile(stream.read(settings.MAX_BODY_BYTES))]}))


class ExportAllView(APIView):
    """All conversations of the caller, as a file."""

    scope = Scope.CONVERSATIONS
    content_negotiation_class = OwnFormat

    @extend_schema(
        operation_id="conversations_export_all",
        parameters=[ExportAllQuerySerializer],
        responses={200: OpenApiTypes.BINARY},
    )
    def get(self, request: Request) -> StreamingHttpResponse:
        """JSON Lines have everything, and can be imported again; Markdown has the current branches."""
        query = ExportAllQuerySerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        return _download(request, ExportFormat(query.validated_data["format"]))


class ExportOneView(APIView):
    """One conversation, as a file."""

    scope = Scope.CONVERSATIONS
    content_negotiation_class = OwnFormat

    @extend_schema(parameters=[ExportOneQuerySerializer], responses={200: OpenApiTypes.BINARY})
    def get(self, request: Request, pk: str) -> StreamingHttpResponse:
        """As all are exported, or its current branch as OpenAI's messages."""
        query = ExportOneQuerySerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        if not Conversation.objects.of(caller_of(request).user_id).filter(pk=pk).exists():
            raise ConversationNotFound
        return _download(request, ExportFormat(query.validated_data["format"]), UUID(pk))


class ImportView(APIView):
    """Conversations of a file, kept for the caller."""

    scope = Scope.CONVERSATIONS
    content_negotiation_class = OwnFormat
    parser_classes = (MultiPartParser, FileParser)

    @extend_schema(
        parameters=[ImportQuerySerializer],
        request={
            "multipart/form-data": UPLOAD,
            "application/json": OpenApiTypes.OBJECT,
            "application/x-ndjson": OpenApiTypes.BINARY,
        },
        responses={201: ImportedConversationsSerializer},
    )
    def post(self, request: Request) -> Response:
        """JSON or JSON Lines, as the body or as the part `file`; all of it or nothing."""
        query = ImportQuerySerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        caller, kind = caller_of(request), query.validated_data.get("format")
        file = request.FILES.get("file")
        if file is None:
            raise InvalidInput("There is no file.", code="required", param="file")
        done = import_conversations(
            user_id=caller.user_id,
            by=caller,
            file=file,
            channel=caller.channel,
            kind=Format(kind) if kind else None,
        )
        return Response(ImportedConversationsSerializer(done).data, status=status.HTTP_201_CREATED)


def _download(request: Request, kind: ExportFormat, conversation_id: UUID | None = None) -> StreamingHttpResponse:
    caller = caller_of(request)
    audit.record("conversation.exported", by=caller, format=kind.value, is_all=conversation_id is None)
    pieces = exported(kind, caller.user_id, conversation_id)
    return download(request._request, pieces, name=file_name(kind), content_type=FORMATS[kind][1])
