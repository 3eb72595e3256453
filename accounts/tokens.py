"""Access and refresh tokens: signed texts that name a user and a session. What they are worth, the session decides."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from rest_framework_simplejwt.exceptions import TokenError
from rest_framework_simplejwt.tokens import AccessToken, RefreshToken, Token

from accounts import sessions
from accounts.exceptions import NotAuthenticated
from accounts.ids import uuid7
from accounts.models import User


@dataclass(frozen=True, slots=True)
class TokenClaims:
    """What a token says whose signature, audience and time are right."""

    id: str
    user_id: UUID
    session_id: UUID
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class TokenPair:
    access: str
    refresh: str


def read_access_token(text: str) -> TokenClaims:
    """`NotAuthenticated` if the token is forged, of another audience, expired, or not an access token."""
    return _claims(_verified(AccessToken, text))


def read_refresh_token(text: str) -> TokenClaims:
    return _claims(_verified(RefreshToken, text))


def sign_in(*, user: User, ip: str | None, user_agent: str, device: str = "") -> TokenPair:
    """Begin a session and answer its first tokens."""
    token = _refresh_token(user.pk, uuid7())
    claims = _claims(token)
    sessions.open_session(
        session_id=claims.session_id,
        user=user,
        refresh_jti=claims.id,
        expires_at=claims.expires_at,
        device=device,
        ip=ip,
        user_agent=user_agent,
    )
    return _pair(token)


def refresh(text: str, *, ip: str | None, user_agent: str) -> TokenPair:
    """Exchange a refresh token for a new pair; `NotAuthenticated` and `Conflict` as `sessions.rotate_session`."""
    old = read_refresh_token(text)
    token = _refresh_token(old.user_id, old.session_id)
    claims = _claims(token)
    sessions.rotate_session(
        session_id=old.session_id,
        user_id=old.user_id,
        old_jti=old.id,
        new_jti=claims.id,
        expires_at=claims.expires_at,
        ip=ip,
        user_agent=user_agent,
    )
    return _pair(token)


def _refresh_token(user_id: UUID, session_id: UUID) -> RefreshToken:
    token = RefreshToken()
    token["user_id"] = str(user_id)
    token["sid"] = str(session_id)
    return token


def _pair(token: RefreshToken) -> TokenPair:
    return TokenPair(access=str(token.access_token), refresh=str(token))


def _verified(kind: type[Token], text: str) -> Token:
    try:
        return kind(text)  # type: ignore[arg-type]
    except (TokenError, OverflowError, ValueError):
        raise NotAuthenticated("The token is wrong or has expired.", code="invalid_token") from None


def _claims(token: Token) -> TokenClaims:
    try:
        return TokenClaims(
            id=str(token["jti"]),
            user_id=UUID(token["user_id"]),
            session_id=UUID(token["sid"]),
            expires_at=datetime.fromtimestamp(token["exp"], UTC),
        )
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError):
        raise NotAuthenticated("The token is wrong or has expired.", code="invalid_token") from None
