from typing import Any

from rest_framework_simplejwt.tokens import AccessToken

from accounts import services
from accounts.models import User


def access_token(user: User) -> str:
    return str(AccessToken.for_user(user))


def api_key(user: User, **fields: Any) -> str:
    return services.create_api_key(**{"user_id": user.pk, "name": "Test", "by": user} | fields)[1]
