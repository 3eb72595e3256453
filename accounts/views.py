from __future__ import annotations

from typing import Any, cast
from uuid import UUID

from django.conf import settings
from django.db.models import QuerySet
from django.utils.decorators import method_decorator
from django_ratelimit.decorators import ratelimit
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, status, viewsets
from rest_framework.decorators import action
from rest_framework.permissions import AllowAny, BasePermission, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import services, tasks
from accounts.authentication import client_ip
from accounts.caller import Caller
from accounts.exceptions import NotFound
from accounts.ids import UUID_PATTERN
from accounts.models import ApiKey, User
from accounts.serializers import (
    ApiKeySerializer,
    NewApiKeySerializer,
    RegistrationSerializer,
    TokenPairSerializer,
    TokenRefreshSerializer,
    UserSerializer,
)


def registration_rate(_group: str, _request: object) -> str:
    return str(settings.RATELIMIT_REGISTRATION)


def token_rate(_group: str, _request: object) -> str:
    return str(settings.RATELIMIT_TOKEN)


class UserViewSet(viewsets.GenericViewSet[User]):
    """Registration, and the caller's own account under `me`."""

    serializer_class = UserSerializer
    queryset = User.objects.none()

    def get_permissions(self) -> list[BasePermission]:
        return [AllowAny()] if self.action == "create" else [IsAuthenticated()]

    @extend_schema(request=RegistrationSerializer, responses={201: UserSerializer})
    @method_decorator(ratelimit(key="ip", rate=registration_rate, method="POST"))
    def create(self, request: Request) -> Response:
        body = RegistrationSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        user = services.register_user(**body.validated_data, ip=client_ip(request._request))
        tasks.enqueue(tasks.send_verification_mail, str(user.pk))
        return Response(UserSerializer(user).data, status=status.HTTP_201_CREATED)

    @extend_schema(responses=UserSerializer)
    @action(detail=False, methods=["get"])
    def me(self, request: Request) -> Response:
        user = User.objects.filter(pk=caller_of(request).user_id).first()
        if user is None:
            raise NotFound("No such user.")
        return Response(UserSerializer(user).data)

    @me.mapping.put
    @me.mapping.patch
    @extend_schema(request=UserSerializer, responses=UserSerializer)
    def update_me(self, request: Request) -> Response:
        caller = caller_of(request)
        body = UserSerializer(data=request.data, partial=request.method == "PATCH")
        body.is_valid(raise_exception=True)
        user = services.update_user(user_id=caller.user_id, by=caller, **body.validated_data)
        if user.email != caller.email:
            tasks.enqueue(tasks.send_verification_mail, str(user.pk))
        return Response(UserSerializer(user).data)

    @me.mapping.delete
    @extend_schema(responses={204: None})
    def close_me(self, request: Request) -> Response:
        caller = caller_of(request)
        services.close_account(user_id=caller.user_id, by=caller)
        return Response(status=status.HTTP_204_NO_CONTENT)


class ApiKeyViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[ApiKey]):
    """The caller's API keys. `POST` answers the whole key, once; `DELETE` revokes."""

    serializer_class = ApiKeySerializer
    queryset = ApiKey.objects.none()
    lookup_value_regex = UUID_PATTERN

    def get_queryset(self) -> QuerySet[ApiKey]:
        return ApiKey.objects.filter(user_id=caller_of(self.request).user_id)

    @extend_schema(request=ApiKeySerializer, responses={201: NewApiKeySerializer})
    def create(self, request: Request) -> Response:
        caller = caller_of(request)
        body = ApiKeySerializer(data=request.data)
        body.is_valid(raise_exception=True)
        key, raw = services.create_api_key(user_id=caller.user_id, by=caller, **body.validated_data)
        answer: dict[str, Any] = {**ApiKeySerializer(key).data, "key": raw}
        return Response(answer, status=status.HTTP_201_CREATED)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, pk: UUID) -> Response:
        caller = caller_of(request)
        services.revoke_api_key(key_id=pk, user_id=caller.user_id, by=caller)
        return Response(status=status.HTTP_204_NO_CONTENT)


class TokenViewSet(viewsets.GenericViewSet[User]):
    """Access and refresh tokens for people."""

    permission_classes = (AllowAny,)
    authentication_classes = ()
    queryset = User.objects.none()
    serializer_class = TokenPairSerializer

    @extend_schema(request=TokenPairSerializer, responses={200: TokenPairSerializer})
    @method_decorator(ratelimit(key="ip", rate=token_rate, method="POST"))
    def create(self, request: Request) -> Response:
        body = TokenPairSerializer(data=request.data, context={"request": request})
        body.is_valid(raise_exception=True)
        return Response(body.validated_data)

    @extend_schema(request=TokenRefreshSerializer, responses={200: TokenPairSerializer})
    @action(detail=False, methods=["post"])
    def refresh(self, request: Request) -> Response:
        body = TokenRefreshSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        return Response(body.validated_data)


def caller_of(request: Request) -> Caller:
    """The authenticated caller; views that use it require authentication."""
    return cast("Caller", request.user)
