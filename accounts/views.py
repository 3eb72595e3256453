from __future__ import annotations

from datetime import timedelta
from typing import Any, cast
from uuid import UUID

from django.conf import settings
from django.db.models import QuerySet
from django.utils.decorators import method_decorator
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, status, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import Serializer

from accounts import erasing, services, sign_in, tasks
from accounts.attempts import ratelimit
from accounts.authentication import client_ip, user_agent
from accounts.caller import Caller
from accounts.exceptions import InvalidInput, NotAuthenticated, NotFound
from accounts.ids import UUID_PATTERN
from accounts.models import ApiKey, User
from accounts.scopes import Scope
from accounts.serializers import (
    ApiKeySerializer,
    ChangePasswordSerializer,
    NewApiKeySerializer,
    PreferenceSerializer,
    RegistrationSerializer,
    RotationSerializer,
    UserSerializer,
)


def registration_rate(_group: str, _request: object) -> str:
    return str(settings.RATELIMIT_REGISTRATION)


def password_rate(_group: str, _request: object) -> str:
    return str(settings.RATELIMIT_TOKEN)


class RegistrationViewSet(viewsets.GenericViewSet[User]):
    """Registration, open to everyone."""

    scope = None
    serializer_class = UserSerializer
    queryset = User.objects.none()

    @extend_schema(request=RegistrationSerializer, responses={201: UserSerializer})
    @method_decorator(ratelimit(key="ip", rate=registration_rate, method="POST"))
    def create(self, request: Request) -> Response:
        body = valid(RegistrationSerializer, request)
        user = services.register_user(**body, ip=client_ip(request._request), user_agent=user_agent(request._request))
        tasks.enqueue(tasks.send_verification_mail, str(user.pk))
        return Response(UserSerializer(user).data, status=status.HTTP_201_CREATED)


class MeViewSet(viewsets.GenericViewSet[User]):
    """The caller's own account."""

    scope = Scope.ADMIN
    serializer_class = UserSerializer
    queryset = User.objects.none()

    @extend_schema(responses=UserSerializer)
    @action(detail=False, methods=["get"])
    def me(self, request: Request) -> Response:
        return Response(UserSerializer(_own_user(request)).data)

    @me.mapping.put
    @me.mapping.patch
    @extend_schema(request=UserSerializer, responses=UserSerializer)
    def update_me(self, request: Request) -> Response:
        caller = caller_of(request)
        body = UserSerializer(data=request.data, partial=request.method == "PATCH")
        body.is_valid(raise_exception=True)
        proven = _proven_address(caller) if "email" in body.validated_data else None
        user = services.update_user(user_id=caller.user_id, by=caller, **body.validated_data)
        if user.email != caller.email:
            tasks.enqueue(tasks.send_verification_mail, str(user.pk))
            if proven:
                tasks.enqueue(tasks.send_notice, "address_changed", proven)
        return Response(UserSerializer(user).data)

    @me.mapping.delete
    @extend_schema(responses={204: None})
    def close_me(self, request: Request) -> Response:
        caller = caller_of(request)
        erasing.erase_user(user_id=caller.user_id, by=caller)
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(request=ChangePasswordSerializer, responses={204: None})
    @action(detail=False, methods=["post"], url_path="me/change-password")
    @method_decorator(ratelimit(key="ip", rate=password_rate, method="POST"))
    def change_password(self, request: Request) -> Response:
        """All sessions but the one that asks end; with `revoke_api_keys` the keys do, too."""
        caller, body = caller_of(request), valid(ChangePasswordSerializer, request)
        try:
            sign_in.check_password(request._request, caller.email, body["current_password"])
        except NotAuthenticated:
            raise InvalidInput(
                "The current password is wrong.", code="wrong_password", param="current_password"
            ) from None
        services.set_password(
            user_id=caller.user_id,
            password=body["new_password"],
            by=caller,
            keep_session=caller.session_id,
            revoke_api_keys=body["revoke_api_keys"],
            param="new_password",
        )
        tasks.enqueue(tasks.send_notice, "password_changed", caller.email)
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(responses=PreferenceSerializer)
    @action(detail=False, methods=["get"], url_path="me/preferences")
    def preferences(self, request: Request) -> Response:
        return Response(PreferenceSerializer(services.preferences_of(user_id=caller_of(request).user_id)).data)

    @preferences.mapping.patch
    @extend_schema(request=PreferenceSerializer, responses=PreferenceSerializer)
    def update_preferences(self, request: Request) -> Response:
        caller = caller_of(request)
        body = PreferenceSerializer(data=request.data, partial=True)
        body.is_valid(raise_exception=True)
        changes = dict(body.validated_data)
        changes |= changes.pop("user", {})
        changed = services.update_preferences(user_id=caller.user_id, by=caller, **changes)
        return Response(PreferenceSerializer(changed).data)


class ApiKeyViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[ApiKey]):
    """The caller's API keys. `POST` answers the whole key, once; `DELETE` revokes."""

    scope = Scope.ADMIN
    serializer_class = ApiKeySerializer
    queryset = ApiKey.objects.none()
    lookup_value_regex = UUID_PATTERN

    def get_queryset(self) -> QuerySet[ApiKey]:
        return ApiKey.objects.filter(user_id=caller_of(self.request).user_id)

    @extend_schema(request=ApiKeySerializer, responses={201: NewApiKeySerializer})
    def create(self, request: Request) -> Response:
        caller = caller_of(request)
        key, raw = services.create_api_key(user_id=caller.user_id, by=caller, **valid(ApiKeySerializer, request))
        return self._show_once(key, raw, status.HTTP_201_CREATED)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, pk: UUID) -> Response:
        caller = caller_of(request)
        services.revoke_api_key(key_id=pk, user_id=caller.user_id, by=caller)
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(request=RotationSerializer, responses=NewApiKeySerializer)
    @action(detail=True, methods=["post"])
    def rotate(self, request: Request, pk: UUID) -> Response:
        """A new text for the same key. The old one stays good for `overlap_seconds`."""
        caller = caller_of(request)
        overlap = valid(RotationSerializer, request)["overlap_seconds"]
        key, raw = services.rotate_api_key(
            key_id=pk, user_id=caller.user_id, by=caller, overlap=timedelta(seconds=overlap)
        )
        return self._show_once(key, raw, status.HTTP_200_OK)

    def _show_once(self, key: ApiKey, raw: str, status_code: int) -> Response:
        answer: dict[str, Any] = {**ApiKeySerializer(key).data, "key": raw}
        return Response(answer, status=status_code)


def caller_of(request: Request) -> Caller:
    """The authenticated caller; views that use it require authentication."""
    return cast("Caller", request.user)


def valid(serializer_class: type[Serializer[Any]], request: Request) -> dict[str, Any]:
    """The body as the serializer reads it; a `ValidationError` names what is wrong with it."""
    serializer = serializer_class(data=request.data)
    serializer.is_valid(raise_exception=True)
    return dict(serializer.validated_data)


def _own_user(request: Request) -> User:
    user = User.objects.filter(pk=caller_of(request).user_id).first()
    if user is None:
        raise NotFound("No such user.")
    return user


def _proven_address(caller: Caller) -> str | None:
    """The caller's address, if it is theirs: a stranger's gets no mail for having been written down for a while."""
    return User.objects.filter(pk=caller.user_id, is_verified=True).values_list("email", flat=True).first()
