"""Saved prompts as files: all that go out, and those that come in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

from django.core.files.base import ContentFile
from django.http import StreamingHttpResponse
from django.utils import timezone
from django.utils.datastructures import MultiValueDict
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.parsers import BaseParser, DataAndFiles, MultiPartParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import audit
from accounts.downloads import download
from accounts.exceptions import InvalidInput
from accounts.scopes import Scope
from accounts.views import caller_of
from inference.exceptions import BodyTooLarge
from prompts.saved_export import FORMATS
from prompts.saved_import import import_prompts
from prompts.saved_rows import MOST_BYTES
from prompts.saved_serializers import ExportQuerySerializer, ImportedSerializer, ImportQuerySerializer

# What multipart puts around a file.
AROUND = 64 * 1024
UPLOAD: dict[str, Any] = {
    "type": "object",
    "properties": {"file": {"type": "string", "format": "binary"}},
    "required": ["file"],
}


class OwnFormat(DefaultContentNegotiation):
    """`?format=` is the export's own parameter, and says nothing of how errors are written."""

    def select_renderer(
        self, request: Request, renderers: Any, format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        return renderers[0], renderers[0].media_type


class FileParser(BaseParser):
    """A body that is a file itself, whatever it says it is."""

    media_type = "*/*"

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> DataAndFiles[Any, Any]:
        return DataAndFiles({}, MultiValueDict({"file": [ContentFile(stream.read(MOST_BYTES + 1))]}))


class ExportView(APIView):
    """All saved prompts of the caller, as a file."""

    scope = Scope.PROMPTS
    content_negotiation_class = OwnFormat

    @extend_schema(parameters=[ExportQuerySerializer], responses={200: OpenApiTypes.BINARY})
    def get(self, request: Request) -> StreamingHttpResponse:
        """Folder by folder, in their order. With whom they are shared is left out."""
        query = ExportQuerySerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        caller, kind = caller_of(request), query.validated_data["format"]
        content_type, pieces_of = FORMATS[kind]
        audit.record("saved_prompt.exported", by=caller, format=kind)
        name = f"mainstay-prompts-{timezone.now():%Y-%m-%d}.{kind}"
        return download(request._request, pieces_of(caller.user_id), name=name, content_type=content_type)


class ImportView(APIView):
    """Prompts of a file, kept for the caller."""

    scope = Scope.PROMPTS
    parser_classes = (MultiPartParser, FileParser)

    @extend_schema(
        parameters=[ImportQuerySerializer],
        request={
            "multipart/form-data": UPLOAD,
            "application/json": OpenApiTypes.OBJECT,
            "text/csv": OpenApiTypes.BINARY,
        },
        responses=ImportedSerializer,
    )
    def post(self, request: Request) -> Response:
        """JSON or CSV, as the body or as the part `file`. Whole or not at all, unless `partial=true`."""
        query = ImportQuerySerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        caller = caller_of(request)
        done = import_prompts(
            user_id=caller.user_id,
            by=caller,
            data=_uploaded(request),
            is_partial=query.validated_data["partial"],
            collection=query.validated_data.get("collection"),
        )
        return Response(ImportedSerializer(done).data)


def _uploaded(request: Request) -> bytes:
    """The file. What says that it is too large is not read."""
    length = str(request.META.get("CONTENT_LENGTH") or "0")
    if length.isdigit() and int(length) > MOST_BYTES + AROUND:
        raise BodyTooLarge(f"A file has at most {MOST_BYTES // 1024 // 1024} MB.")
    file = request.FILES.get("file")
    if file is None:
        raise InvalidInput("There is no file.", code="required", param="file")
    content: bytes = file.read(MOST_BYTES + 1)
    return content
