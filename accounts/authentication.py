"""Credentials of a request, on both surfaces: `Authorization: Bearer <key or JWT>` or `X-API-Key: <key>`."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpRequest
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from accounts import tokens
from accounts.caller import Caller
from accounts.credentials import KEY_MARK, caller_for_key, caller_for_session
from accounts.exceptions import InvalidInput, NotAllowed, NotAuthenticated
from accounts.people import HEADER
from accounts.permissions import check_scope
from accounts.snapshots import Read


def client_ip(request: HttpRequest) -> str | None:
    """The peer's address; RequestMiddleware puts the one that trusted proxies report into REMOTE_ADDR."""
    return request.META.get("REMOTE_ADDR") or None


def user_agent(request: HttpRequest) -> str:
    return request.headers.get("User-Agent", "").replace("\0", "")[:300]


def authenticate(request: HttpRequest, *, read: Read | None = None) -> Caller | None:
    """The caller, or None if the request carries no credential; `NotAuthenticated` if it carries a bad one.

    Reads Redis, by `read` if it is given, and PostgreSQL when Redis does not know the answer: not for an event loop.
    """
    credential = request.headers.get("X-API-Key") or ""
    if not credential:
        scheme, _, credential = request.headers.get("Authorization", "").partition(" ")
        if not scheme:
            return None
        if scheme.lower() != "bearer" or not credential.strip():
            raise NotAuthenticated("Send `Authorization: Bearer <API key or access token>`.")
    credential = credential.strip()
    on_behalf_of = _person_named(request)
    if credential.startswith(KEY_MARK):
        return caller_for_key(
            credential, on_behalf_of=on_behalf_of, ip=client_ip(request), user_agent=user_agent(request), read=read
        )
    if credential.count(".") != 2:
        raise NotAuthenticated
    token = tokens.read_access_token(credential)
    caller = caller_for_session(
        session_id=token.session_id,
        user_id=token.user_id,
        token_id=token.id,
        ip=client_ip(request),
        user_agent=user_agent(request),
        read=read,
    )
    if on_behalf_of:
        raise NotAllowed(f"{HEADER} needs an API key with the scope act-as.", code="scope_required", param=HEADER)
    return caller


def require_caller(request: HttpRequest, *, read: Read | None = None) -> Caller:
    """The caller of a plain view, held to the scope that the view declares (`openai_view`)."""
    caller = authenticate(request, read=read)
    if caller is None:
        raise NotAuthenticated("Send `Authorization: Bearer <API key or access token>`.", code="missing_credentials")
    assert request.resolver_match is not None
    check_scope(caller, request.resolver_match.func.scope, request.method)  # type: ignore[attr-defined]
    return caller


def _person_named(request: HttpRequest) -> str:
    """What `X-On-Behalf-Of` says, if it is there; a user's id in the one way that ids are written.

    `InvalidInput` if it says nothing: a bot that does not know for whom it calls must not call for its owner.
    """
    if HEADER not in request.headers:
        return ""
    name = request.headers[HEADER].strip()
    if not name:
        raise InvalidInput(f"{HEADER} is empty.", param=HEADER, code="required")
    try:
        return str(UUID(name))
    except ValueError:
        return name


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
