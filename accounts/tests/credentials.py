from typing import Any

from accounts import services, tokens
from accounts.caller import Caller
from accounts.credentials import caller_for_session
from accounts.models import User


def access_token(user: User) -> str:
    return tokens.sign_in(user=user, ip=None, user_agent="").access


def api_key(user: User, **fields: Any) -> str:
    return services.create_api_key(**{"user_id": user.pk, "name": "Test", "by": user} | fields)[1]


def caller_for_token(token: str) -> Caller:
    claims = tokens.read_access_token(token)
    return caller_for_session(session_id=claims.session_id, user_id=claims.user_id, token_id=claims.id)
