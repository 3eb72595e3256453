"""Content-Security-Policy: what the pages of this server may load, run and be embedded in."""

from __future__ import annotations

from typing import Any

from csp.constants import NONCE, NONE, SELF, UNSAFE_EVAL, UNSAFE_INLINE
from csp.middleware import CSPMiddleware, PolicyParts
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from config.middleware import PageOnly

Directives = dict[str, list[Any]]

# Own files only. A <style> in a template needs `nonce="{{ request.csp_nonce }}"`; nothing lets a script stand there.
STRICT: Directives = {
    "default-src": [SELF],
    "style-src": [SELF, NONCE],
    "object-src": [NONE],
    "base-uri": [SELF],
    "form-action": [SELF],
    "frame-ancestors": [NONE],
}

# What pages below a path need beyond that, and nothing else gets.
EXCEPTIONS: dict[str, Directives] = {
    # The theme's Alpine makes functions out of attributes; its templates, Alpine, htmx and the charts write styles.
    "/admin/": {"script-src": [SELF, UNSAFE_EVAL], "style-src": [SELF, UNSAFE_INLINE], "img-src": [SELF, "data:"]},
    # Swagger UI's icons.
    "/api/docs": {"img-src": [SELF, "data:"]},
}


class PagePolicyMiddleware(PageOnly, CSPMiddleware):
    def get_policy_parts(
        self, request: HttpRequest, response: HttpResponseBase, report_only: bool = False
    ) -> PolicyParts:
        parts: PolicyParts = super().get_policy_parts(request, response, report_only)
        if not report_only:
            parts.config = STRICT | exception_for(request.path_info)
        return parts


def exception_for(path: str) -> Directives:
    return next((more for prefix, more in EXCEPTIONS.items() if path.startswith(prefix)), {})
