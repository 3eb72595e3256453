"""Every route that the project answers on, as the URL resolver knows it."""

from collections.abc import Iterator
from typing import Any

from django.contrib.admindocs.views import simplify_regex
from django.urls import URLPattern, URLResolver, get_resolver

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def all_routes() -> list[str]:
    """Paths with their parameters in angle brackets, such as `/api/v1/plans/<slug>`."""
    return [path for path, _pattern in _all_patterns()]


def api_routes() -> list[str]:
    return [path for path in all_routes() if not path.startswith("/admin/")]


def api_views() -> list[tuple[str, Any]]:
    """Each route that takes credentials, with the class or function that answers it."""
    found = [(path, pattern) for path, pattern in _all_patterns() if path.startswith(("/api/v1/", "/v1/", "/mcp"))]
    return [(path, getattr(pattern.callback, "cls", pattern.callback)) for path, pattern in found]


def admin_routes() -> list[str]:
    return [path for path in all_routes() if path.startswith("/admin/")]


def _all_patterns() -> Iterator[tuple[str, URLPattern]]:
    for route, pattern in _walk(get_resolver().url_patterns):
        path = simplify_regex(route).replace("<path:", "<")
        yield path.rstrip("/") or "/", pattern


def _walk(patterns: list[URLPattern | URLResolver], prefix: str = "") -> Iterator[tuple[str, URLPattern]]:
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            yield from _walk(pattern.url_patterns, prefix + str(pattern.pattern))
        else:
            yield prefix + str(pattern.pattern), pattern
