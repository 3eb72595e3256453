from __future__ import annotations

import orjson
from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.views.decorators.csrf import csrf_exempt
from rest_framework.exceptions import NotAcceptable, UnsupportedMediaType

from accounts.exceptions import NotAllowed
from accounts.scopes import Scope
from inference.payloads import parse_json
from prompts.mcp.protocol import Headers
from prompts.mcp.server import answer
from quotas.throttling import admitted_caller

JSON = "application/json"


@csrf_exempt
def mcp(request: HttpRequest) -> HttpResponse:
    """Prompts for clients that speak the Model Context Protocol (streamable HTTP): each message is a POST of its own.

    Nothing is ever sent unasked, so there is no stream to GET, and no session to DELETE.
    """
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    _check_origin(request)
    caller = admitted_caller(request)
    if not request.accepts(JSON):
        raise NotAcceptable(f"The answer is {JSON}.")
    if request.content_type != JSON:
        raise UnsupportedMediaType(request.content_type or "")
    headers = Headers(*(request.headers.get(name) for name in ("MCP-Protocol-Version", "Mcp-Method", "Mcp-Name")))
    reply = answer(parse_json(request.body), headers=headers, user_id=caller.user_id)
    content = b"" if reply.body is None else orjson.dumps(reply.body)
    return HttpResponse(content, status=reply.status, content_type=JSON)


mcp.scope = Scope.PROMPTS  # type: ignore[attr-defined]


def _check_origin(request: HttpRequest) -> None:
    """`NotAllowed` for pages of other sites, also of a name that was made to lead here (DNS rebinding)."""
    origin = request.headers.get("Origin")
    if origin is None or origin in settings.CORS_ALLOWED_ORIGINS:
        return
    try:
        own = f"{request.scheme}://{request.get_host()}"
    except DisallowedHost:
        own = ""
    if origin != own:
        raise NotAllowed("Pages of this origin may not call.", code="origin_not_allowed", param="Origin")
