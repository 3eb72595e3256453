"""Cross-origin calls: whose pages may call the API out of a browser (`CORS_ALLOWED_ORIGINS`)."""

from __future__ import annotations

from typing import Any

from corsheaders.middleware import CorsMiddleware
from django.conf import settings
from django.core.exceptions import MiddlewareNotUsed


class ApiCorsMiddleware(CorsMiddleware):
    """Answers preflights and marks answers of the API for the origins that are allowed; without any, it is not there.

    No cookie is ever sent along: the API takes no session, so there is nothing that another origin could ride on.
    """

    def __init__(self, get_response: Any) -> None:
        if not settings.CORS_ALLOWED_ORIGINS:
            raise MiddlewareNotUsed
        super().__init__(get_response)


def with_cors(get_response: Any) -> Any:
    """`get_response` behind the middleware, for handlers that load no list of them."""
    try:
        return ApiCorsMiddleware(get_response)
    except MiddlewareNotUsed:
        return get_response
