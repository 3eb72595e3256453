"""Credentials of a request, on both surfaces: `Authorization: Bearer <key or JWT>` or `X-API-Key: <key>`."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpRequest
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request
from rest_framework_simplejwt.exceptions import TokenError
from rest_framework_simplejwt.tokens import AccessToken

from accounts.caller import KEY_MARK, Caller, caller_for_key, caller_for_user
from accounts.exceptions import NotAuthenticated


def client_ip(request: HttpRequest) -> str | None:
    """The peer's address; RequestMiddleware puts the one that trusted proxies report into REMOTE_ADDR."""
    return request.META.get("REMOTE_ADDR") or None


def user_agent(request: HttpRequest) -> str:
    return request.headers.get("User-Agent", "").replace("\0", "")[:300]


def authenticate(request: HttpRequest) -> Caller | None:
    """The caller, or None if the request carries no credential; `NotAuthenticated` if it carries a bad one.

    Reads Redis, and PostgreSQL when Redis does not know the answer: not for an event loop.
    """
    credential = request.headers.get("X-API-Key") or ""
    if not credential:
        scheme, _, credential = request.headers.get("Authorization", "").partition(" ")
        if not scheme:
            return None
        if scheme.lower() != "bearer" or not credential.strip():
            raise NotAuthenticated("Send `Authorization: Bearer <API key or access token>`.")
    credential = credential.strip()
    if credential.startswith(KEY_MARK):
        return caller_for_key(credential, ip=client_ip(request))
    return _caller_for_token(credential, ip=client_ip(request))


def require_caller(request: HttpRequest) -> Caller:
    caller = authenticate(request)
    if caller is None:
        raise NotAuthenticated("Send `Authorization: Bearer <API key or access token>`.", code="missing_credentials")
    return caller


def _caller_for_token(credential: str, *, ip: str | None) -> Caller:
    if credential.count(".") != 2:
        raise NotAuthenticated
    try:
        user_id = UUID(str(AccessToken(credential)["user_id"]))  # type: ignore[arg-type]
    except (TokenError, KeyError, ValueError):
        raise NotAuthenticated("The token is wrong or has expired.", code="invalid_token") from None
    return caller_for_user(user_id, ip=ip)


class CallerAuthentication(BaseAuthentication):
    """DRF's side of `authenticate`: `request.user` is a `Caller`."""

    def authenticate(self, request: Request) -> tuple[Caller, None] | None:
        caller = authenticate(request._request)
        return (caller, None) if caller else None

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="mainstay"'


class CallerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = CallerAuthentication
    name = "bearer"

    def get_security_definition(self, auto_schema: object) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "An API key (`msk_…`) or an access token."}
