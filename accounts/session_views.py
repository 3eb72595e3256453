"""Signing in and out, and the sessions in between."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, cast
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import update_last_login
from django.db.models import QuerySet
from django.utils.decorators import method_decorator
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, status, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import sessions, sign_in, tokens, two_factor
from accounts.attempts import ratelimit
from accounts.authentication import client_ip, user_agent
from accounts.caller import Caller
from accounts.exceptions import InvalidInput, NotAllowed, NotAuthenticated
from accounts.ids import UUID_PATTERN
from accounts.models import Session, User
from accounts.scopes import Scope
from accounts.serializers import (
    RefreshTokenSerializer,
    SessionSerializer,
    SignInSerializer,
    SignOutSerializer,
    TokenPairSerializer,
)
from accounts.views import caller_of, password_rate, valid


class TokenViewSet(viewsets.GenericViewSet[User]):
    """Access and refresh tokens for people."""

    scope = None
    authentication_classes = ()
    queryset = User.objects.none()
    serializer_class = TokenPairSerializer

    @extend_schema(request=SignInSerializer, responses={200: TokenPairSerializer})
    @method_decorator(ratelimit(key="ip", rate=password_rate, method="POST"))
    def create(self, request: Request) -> Response:
        """Begin a session. Every token of it ends with it."""
        body = valid(SignInSerializer, request)
        user = sign_in.check_password(request._request, body["email"], body["password"])
        origin: dict[str, Any] = {"ip": client_ip(request._request), "user_agent": user_agent(request._request)}
        how = _check_second_factor(user, body.get("otp"), **origin)
        update_last_login(type(user), user)
        pair = tokens.sign_in(user=user, device=body.get("device", ""), **origin)
        sign_in.record_success(user=user, how=how, **origin)
        return Response(asdict(pair))

    @extend_schema(request=RefreshTokenSerializer, responses={200: TokenPairSerializer})
    @action(detail=False, methods=["post"])
    def refresh(self, request: Request) -> Response:
        """A new pair for a refresh token, which is worth nothing afterwards."""
        pair = tokens.refresh(
            valid(RefreshTokenSerializer, request)["refresh"],
            ip=client_ip(request._request),
            user_agent=user_agent(request._request),
        )
        return Response(asdict(pair))


def _check_second_factor(user: User, code: str | None, **origin: Any) -> str:
    """By what the user has signed in; `NotAuthenticated` without the code of whoever has set up an app."""
    if two_factor.confirmed_device(user) is None:
        if settings.REQUIRE_OPERATOR_2FA and user.is_staff:
            raise NotAllowed("Set up two-factor sign-in in the admin first.", code="two_factor_required")
        return "password"
    if code is None:
        raise NotAuthenticated("Send a code of your authenticator app as `otp`.", code="otp_required")
    return str(two_factor.verify(user=user, code=code, **origin))


class SignOutViewSet(viewsets.GenericViewSet[User]):
    scope = None
    queryset = User.objects.none()

    @extend_schema(request=SignOutSerializer, responses={204: None})
    @action(detail=False, methods=["post"])
    def logout(self, request: Request) -> Response:
        """End the session of the access token, or that of `refresh`, which needs no other credential."""
        refresh = valid(SignOutSerializer, request).get("refresh")
        caller = cast("Caller | None", request.user)
        if refresh is not None:
            claims = tokens.read_refresh_token(refresh)
            by = caller or Caller(
                user_id=claims.user_id, ip=client_ip(request._request), user_agent=user_agent(request._request)
            )
            sessions.sign_out(session_id=claims.session_id, user_id=claims.user_id, by=by)
        elif caller is None:
            raise NotAuthenticated("Send an access token, or `refresh` in the body.", code="missing_credentials")
        elif caller.session_id is None:
            raise InvalidInput("An API key has no session to end. Revoke the key instead.", code="no_session")
        else:
            sessions.sign_out(session_id=caller.session_id, user_id=caller.user_id, by=caller)
        return Response(status=status.HTTP_204_NO_CONTENT)


class SignOutEverywhereViewSet(viewsets.GenericViewSet[User]):
    scope = Scope.ADMIN
    queryset = User.objects.none()

    @extend_schema(request=None, responses={204: None})
    @action(detail=False, methods=["post"], url_path="logout-all")
    def logout_all(self, request: Request) -> Response:
        """End all of the caller's sessions, this one included. API keys stay."""
        caller = caller_of(request)
        sessions.sign_out_everywhere(user_id=caller.user_id, by=caller)
        return Response(status=status.HTTP_204_NO_CONTENT)


class SessionViewSet(mixins.ListModelMixin, viewsets.GenericViewSet[Session]):
    """Where the caller is signed in. `DELETE` signs out there."""

    scope = Scope.ADMIN
    serializer_class = SessionSerializer
    queryset = Session.objects.none()
    lookup_value_regex = UUID_PATTERN

    def get_queryset(self) -> QuerySet[Session]:
        return Session.objects.live().filter(user_id=caller_of(self.request).user_id)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, pk: UUID) -> Response:
        caller = caller_of(request)
        sessions.revoke_session(session_id=pk, user_id=caller.user_id, by=caller)
        return Response(status=status.HTTP_204_NO_CONTENT)
