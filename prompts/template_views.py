from __future__ import annotations

from typing import Any

from django.db.models import Prefetch, QuerySet
from django_filters import rest_framework as filters
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import mixins, status, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.exceptions import InvalidInput
from accounts.scopes import Scope
from accounts.views import caller_of, valid
from prompts import templates
from prompts.asking import render_asked
from prompts.diffs import compare
from prompts.exceptions import VersionNotFound
from prompts.models import PromptLabel, PromptTemplate, PromptVersion
from prompts.models.templates import LABEL_PATTERN, NAME_PATTERN
from prompts.template_serializers import (
    DiffQuerySerializer,
    DiffSerializer,
    LabelMoveSerializer,
    LabelSerializer,
    NewTemplateSerializer,
    RenderingSerializer,
    RenderSerializer,
    TemplateSerializer,
    VersionSerializer,
)

NUMBER = OpenApiParameter("number", int, OpenApiParameter.PATH, description="Of a version.")
LABEL = OpenApiParameter("label", str, OpenApiParameter.PATH, description="Such as production.")


class TemplateFilter(filters.FilterSet):  # type: ignore[misc]
    tag = filters.CharFilter(method="with_tag")

    class Meta:
        model = PromptTemplate
        fields = ("is_shared",)

    def with_tag(self, rows: QuerySet[PromptTemplate], _name: str, value: str) -> QuerySet[PromptTemplate]:
        return rows.filter(tags__contains=[value])


class TemplateViewSet(mixins.RetrieveModelMixin, mixins.ListModelMixin, viewsets.GenericViewSet[PromptTemplate]):
    """The caller's prompt templates, and those that are shared with everybody."""

    scope = Scope.PROMPTS
    serializer_class = TemplateSerializer
    queryset = PromptTemplate.objects.none()
    filterset_class = TemplateFilter
    lookup_field = "name"
    lookup_value_regex = NAME_PATTERN

    def get_queryset(self) -> QuerySet[PromptTemplate]:
        labels = Prefetch("labels", PromptLabel.objects.with_numbers())
        return PromptTemplate.objects.visible_to(caller_of(self.request).user_id).with_usage().prefetch_related(labels)

    def get_object(self) -> PromptTemplate:
        """By its name; the caller's own goes before a shared one. For what changes something, only the own."""
        find = templates.find_template if self.reads else templates.own_template
        return find(user_id=caller_of(self.request).user_id, name=self.kwargs["name"])

    @property
    def reads(self) -> bool:
        return self.request.method == "GET" or self.action == "render"

    def get_serializer_context(self) -> dict[str, Any]:
        user = self.request.user
        return {**super().get_serializer_context(), "user_id": user.pk if user else None}

    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return self._answer(self.get_object())

    @extend_schema(request=NewTemplateSerializer, responses={201: TemplateSerializer})
    def create(self, request: Request) -> Response:
        """A new template; with `content`, also its first version."""
        body = valid(NewTemplateSerializer, request)
        return self._answer(templates.create_template(by=caller_of(request), **body), status.HTTP_201_CREATED)

    @extend_schema(request=TemplateSerializer, responses=TemplateSerializer)
    def partial_update(self, request: Request, name: str) -> Response:
        """What is said about the template. What it says is in its versions."""
        template = self.get_object()
        serializer = TemplateSerializer(template, data=request.data, partial=True)
        serializer.is_valid(raise_exception=True)
        fields = dict(serializer.validated_data)
        return self._answer(templates.change_template(template=template, by=caller_of(request), **fields))

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, name: str) -> Response:
        """Refused while another template includes it. Its versions stay with the requests that they ran in."""
        templates.delete_template(template=self.get_object(), by=caller_of(request))
        return Response(status=status.HTTP_204_NO_CONTENT)

    # Versions

    @extend_schema(responses=VersionSerializer(many=True), filters=False)
    @action(detail=True, methods=["get"], filterset_class=None, serializer_class=VersionSerializer)
    def versions(self, request: Request, name: str) -> Response:
        """All versions, newest first."""
        versions: QuerySet[Any] = self._versions()
        page: list[Any] | None = self.paginate_queryset(versions)
        return self.get_paginated_response(VersionSerializer(page or [], many=True).data)

    @versions.mapping.post
    @extend_schema(request=VersionSerializer, responses={201: VersionSerializer})
    def add_version(self, request: Request, name: str) -> Response:
        """The next version. No label moves to it by itself."""
        template = self.get_object()
        version = templates.add_version(template=template, by=caller_of(request), **valid(VersionSerializer, request))
        return Response(VersionSerializer(version).data, status=status.HTTP_201_CREATED)

    @extend_schema(responses=VersionSerializer, parameters=[NUMBER])
    @action(detail=True, methods=["get"], url_path="versions/(?P<number>[1-9][0-9]{0,8})", url_name="version")
    def version(self, request: Request, name: str, number: str) -> Response:
        return Response(VersionSerializer(self._version(int(number))).data)

    @extend_schema(responses=DiffSerializer, parameters=[DiffQuerySerializer], filters=False)
    @action(detail=True, methods=["get"], pagination_class=None, filterset_class=None)
    def diff(self, request: Request, name: str) -> Response:
        """What has changed from one version to another."""
        query = DiffQuerySerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        old, new = (self._version(query.validated_data[which], which) for which in ("from", "to"))
        return Response(DiffSerializer(compare(old, new)).data)

    # Labels

    @extend_schema(responses=LabelSerializer(many=True), filters=False)
    @action(detail=True, methods=["get"], pagination_class=None, filterset_class=None)
    def labels(self, request: Request, name: str) -> Response:
        """Which version each label stands for."""
        return Response(
            LabelSerializer(PromptLabel.objects.with_numbers().filter(template=self.get_object()), many=True).data
        )

    @extend_schema(request=LabelMoveSerializer, responses=LabelSerializer, parameters=[LABEL])
    @action(detail=True, methods=["put"], url_path=f"labels/(?P<label>{LABEL_PATTERN})", url_name="label")
    def move_label(self, request: Request, name: str, label: str) -> Response:
        """Let the label stand for a version. With `expected`, only if it stands for that one now."""
        body = valid(LabelMoveSerializer, request)
        row = templates.move_label(
            template=self.get_object(),
            label=label,
            number=body["version"],
            expected=body.get("expected"),
            by=caller_of(request),
        )
        return Response(LabelSerializer(row).data)

    @move_label.mapping.delete
    @extend_schema(responses={204: None}, parameters=[LABEL])
    def remove_label(self, request: Request, name: str, label: str) -> Response:
        templates.remove_label(template=self.get_object(), label=label, by=caller_of(request))
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(request=RenderSerializer, responses=RenderingSerializer)
    @action(detail=True, methods=["post"])
    def render(self, request: Request, name: str) -> Response:
        """The messages that a chat call with this `prompt` would send. Nothing is charged."""
        if not isinstance(request.data, dict):
            raise InvalidInput("The request body must be a JSON object.", code="invalid_type")
        rendering = render_asked(caller=caller_of(request), name=name, asked=request.data)
        return Response(RenderingSerializer(rendering).data)

    def _answer(self, template: PromptTemplate, status: int = status.HTTP_200_OK) -> Response:
        shown = self.get_queryset().get(pk=template.pk)
        return Response(TemplateSerializer(shown, context=self.get_serializer_context()).data, status=status)

    def _versions(self) -> QuerySet[PromptVersion]:
        return PromptVersion.objects.filter(template=self.get_object()).prefetch_related("labels")

    def _version(self, number: int, param: str | None = None) -> PromptVersion:
        version = self._versions().filter(number=number).first()
        if version is None:
            raise VersionNotFound(param=param)
        return version
