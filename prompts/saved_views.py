"""Saved prompts, and the collections that they are in."""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

from django.db.models import QuerySet
from django_filters import rest_framework as filters
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import mixins, status, viewsets
from rest_framework.decorators import action
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer

from accounts.exceptions import InvalidInput
from accounts.ids import UUID_PATTERN
from accounts.scopes import Scope
from accounts.views import caller_of, valid
from prompts import collections, saved, sharing
from prompts.models import Collection, SavedPrompt, ShareLink
from prompts.saved_serializers import (
    CollectionMoveSerializer,
    CollectionSerializer,
    CopySerializer,
    NewShareLinkSerializer,
    PromptMoveSerializer,
    SavedPromptSerializer,
    ShareLinkSerializer,
)

LINK = OpenApiParameter("link", OpenApiTypes.UUID, OpenApiParameter.PATH, description="The id of a link.")


class OrderedPagination(CursorPagination):
    """As everywhere, newest first, unless `ordering` says otherwise."""

    page_size = 50
    page_size_query_param = "limit"
    max_page_size = 200
    orderings: ClassVar[dict[str, tuple[str, ...]]] = {
        "": ("-id",),
        "position": ("position", "id"),
        "name": ("name", "id"),
        "title": ("title", "id"),
        "-updated_at": ("-updated_at", "-id"),
    }

    def get_ordering(self, request: Request, queryset: QuerySet[Any], view: Any) -> tuple[str, ...]:
        wanted = request.query_params.get("ordering", "")
        if wanted and wanted not in view.orderings:
            raise InvalidInput(f"The ordering is one of {', '.join(view.orderings)}.", param="ordering")
        return self.orderings[wanted]


class FolderFilter(filters.FilterSet):  # type: ignore[misc]
    """`none` is the top."""

    def in_folder(self, rows: QuerySet[Any], name: str, value: str) -> QuerySet[Any]:
        if value == "none":
            return rows.filter(**{name: None})
        try:
            return rows.filter(**{name: UUID(value)})
        except ValueError:
            raise InvalidInput("This is the id of a collection, or none.", param=name) from None


class SavedPromptFilter(FolderFilter):
    scope = filters.ChoiceFilter(choices=[("own", "Own"), ("shared", "Shared")], method="ignored")
    collection = filters.CharFilter(method="in_folder")
    tag = filters.CharFilter(method="with_tag")

    class Meta:
        model = SavedPrompt
        fields = ("is_favourite", "is_shared")

    def filter_queryset(self, queryset: QuerySet[SavedPrompt]) -> QuerySet[SavedPrompt]:
        """What others like best is nobody else's to know."""
        if self.form.cleaned_data["scope"] == "shared" and self.form.cleaned_data["is_favourite"] is not None:
            raise InvalidInput("Only own prompts are filtered by this.", param="is_favourite")
        rows: QuerySet[SavedPrompt] = super().filter_queryset(queryset)
        return rows

    def ignored(self, rows: QuerySet[SavedPrompt], _name: str, _value: str) -> QuerySet[SavedPrompt]:
        """The view has chosen by it already."""
        return rows

    def with_tag(self, rows: QuerySet[SavedPrompt], _name: str, value: str) -> QuerySet[SavedPrompt]:
        return rows.filter(tags__contains=[value])


class CollectionFilter(FolderFilter):
    scope = filters.ChoiceFilter(choices=[("own", "Own"), ("shared", "Shared")], method="ignored")
    parent = filters.CharFilter(method="in_folder")

    class Meta:
        model = Collection
        fields = ("is_shared",)

    def ignored(self, rows: QuerySet[Collection], _name: str, _value: str) -> QuerySet[Collection]:
        """The view has chosen by it already."""
        return rows


class OwnedViewSet(mixins.ListModelMixin, viewsets.GenericViewSet[Any]):
    """What a user keeps and may share: others read what is shared, with `scope=shared`, and change nothing."""

    scope = Scope.PROMPTS
    pagination_class = OrderedPagination
    lookup_value_regex = UUID_PATTERN
    model: Any
    folder: str
    orderings: tuple[str, ...]

    def visible(self) -> Any:
        raise NotImplementedError

    def own(self) -> Any:
        raise NotImplementedError

    @property
    def user_id(self) -> UUID:
        return caller_of(self.request).user_id

    def get_queryset(self) -> QuerySet[Any]:
        rows: QuerySet[Any] = self.model.objects.filter(user_id=self.user_id)
        if self.request.query_params.get("scope") == "shared":
            rows = self.model.objects.shared_with(self.user_id).select_related(self.folder)
        return rows

    def get_serializer_context(self) -> dict[str, Any]:
        user = self.request.user
        return {**super().get_serializer_context(), "user_id": user.pk if user else None}

    def retrieve(self, request: Request, pk: str) -> Response:
        return self.answer(self.visible())

    def changes(self, request: Request) -> dict[str, Any]:
        """What a body says, checked; for PATCH, of some fields alone."""
        serializer: BaseSerializer[Any] = self.get_serializer(data=request.data, partial=request.method == "PATCH")
        serializer.is_valid(raise_exception=True)
        fields = dict(serializer.validated_data)
        for name in ("collection", "parent"):
            if f"{name}_id" in fields:
                fields[name] = fields.pop(f"{name}_id")
        return fields

    def answer(self, row: Any, status: int = status.HTTP_200_OK) -> Response:
        return Response(self.get_serializer(row).data, status=status)

    # Links

    @extend_schema(responses=ShareLinkSerializer(many=True), filters=False)
    @action(detail=True, methods=["get"], pagination_class=None, filterset_class=None)
    def links(self, request: Request, pk: str) -> Response:
        """All links to it that were made, newest first, without their tokens."""
        return Response(ShareLinkSerializer(self._links(), many=True).data)

    @links.mapping.post
    @extend_schema(request=ShareLinkSerializer, responses={201: NewShareLinkSerializer})
    def add_link(self, request: Request, pk: str) -> Response:
        """A link for people without an account. Its token is in this one answer."""
        body = valid(ShareLinkSerializer, request)
        link, token = sharing.create_link(target=self.own(), by=caller_of(request), **body)
        link.token = token  # type: ignore[attr-defined]
        return Response(NewShareLinkSerializer(link).data, status=status.HTTP_201_CREATED)

    @extend_schema(responses={204: None}, parameters=[LINK])
    @action(detail=True, methods=["delete"], url_path=f"links/(?P<link>{UUID_PATTERN})", url_name="link")
    def revoke_link(self, request: Request, pk: str, link: str) -> Response:
        """It leads nowhere from now on."""
        sharing.revoke_link(links=self._links(), link_id=UUID(link), by=caller_of(request))
        return Response(status=status.HTTP_204_NO_CONTENT)

    def _links(self) -> QuerySet[ShareLink]:
        links: QuerySet[ShareLink] = self.own().links.all()
        return links


class SavedPromptViewSet(OwnedViewSet):
    """The caller's saved prompts; with `scope=shared`, those of others that everybody may read."""

    serializer_class = SavedPromptSerializer
    model, folder = SavedPrompt, "collection"
    queryset = SavedPrompt.objects.none()
    filterset_class = SavedPromptFilter
    orderings = ("position", "title", "-updated_at")

    def visible(self) -> SavedPrompt:
        return saved.visible_prompt(user_id=self.user_id, prompt_id=UUID(self.kwargs["pk"]))

    def own(self) -> SavedPrompt:
        return saved.own_prompt(user_id=self.user_id, prompt_id=UUID(self.kwargs["pk"]))

    def create(self, request: Request) -> Response:
        prompt = saved.create_prompt(by=caller_of(request), **self.changes(request))
        return self.answer(prompt, status.HTTP_201_CREATED)

    def update(self, request: Request, pk: str) -> Response:
        return self.answer(saved.change_prompt(prompt_id=UUID(pk), by=caller_of(request), **self.changes(request)))

    def partial_update(self, request: Request, pk: str) -> Response:
        return self.update(request, pk)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, pk: str) -> Response:
        saved.delete_prompt(prompt_id=UUID(pk), by=caller_of(request))
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(request=PromptMoveSerializer, responses=SavedPromptSerializer)
    @action(detail=True, methods=["post"])
    def move(self, request: Request, pk: str) -> Response:
        """Right before or after another prompt, or to the end of a collection."""
        body = valid(PromptMoveSerializer, request)
        return self.answer(saved.move_prompt(prompt_id=UUID(pk), by=caller_of(request), **body))

    @extend_schema(request=CopySerializer, responses={201: SavedPromptSerializer})
    @action(detail=True, methods=["post"])
    def duplicate(self, request: Request, pk: str) -> Response:
        """A copy that is the caller's own: of an own prompt, or of one that everybody may read."""
        body = valid(CopySerializer, request)
        copy = saved.duplicate_prompt(prompt=self.visible(), by=caller_of(request), **body)
        return self.answer(copy, status.HTTP_201_CREATED)


class CollectionViewSet(OwnedViewSet):
    """The caller's folders of saved prompts; with `scope=shared`, those of others that everybody may read."""

    serializer_class = CollectionSerializer
    model, folder = Collection, "parent"
    queryset = Collection.objects.none()
    filterset_class = CollectionFilter
    orderings = ("position", "name", "-updated_at")

    def visible(self) -> Collection:
        return collections.visible_collection(user_id=self.user_id, collection_id=UUID(self.kwargs["pk"]))

    def own(self) -> Collection:
        return collections.own_collection(user_id=self.user_id, collection_id=UUID(self.kwargs["pk"]))

    def create(self, request: Request) -> Response:
        folder = collections.create_collection(by=caller_of(request), **self.changes(request))
        return self.answer(folder, status.HTTP_201_CREATED)

    def partial_update(self, request: Request, pk: str) -> Response:
        fields = self.changes(request)
        return self.answer(collections.change_collection(collection_id=UUID(pk), by=caller_of(request), **fields))

    @extend_schema(
        responses={204: None},
        parameters=[OpenApiParameter("recursive", bool, description="Delete what is in it, too.")],
    )
    def destroy(self, request: Request, pk: str) -> Response:
        """Refused while something is in it, unless `recursive=true` says that it may go, too."""
        is_recursive = request.query_params.get("recursive") == "true"
        collections.delete_collection(collection_id=UUID(pk), by=caller_of(request), is_recursive=is_recursive)
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(request=CollectionMoveSerializer, responses=CollectionSerializer)
    @action(detail=True, methods=["post"])
    def move(self, request: Request, pk: str) -> Response:
        """With all that is in it: right before or after another collection, or to the end of one."""
        body = valid(CollectionMoveSerializer, request)
        return self.answer(collections.move_collection(collection_id=UUID(pk), by=caller_of(request), **body))

    @extend_schema(request=CopySerializer, responses={201: CollectionSerializer})
    @action(detail=True, methods=["post"])
    def duplicate(self, request: Request, pk: str) -> Response:
        """A copy with all that is in it: of an own collection, or of one that everybody may read."""
        body = valid(CopySerializer, request)
        copy = collections.duplicate_collection(
            folder=self.visible(), by=caller_of(request), parent=body.get("collection")
        )
        return self.answer(copy, status.HTTP_201_CREATED)
