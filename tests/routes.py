"""Every route that the project answers on, as the URL resolver knows it."""

from collections.abc import Iterator

from django.contrib.admindocs.views import simplify_regex
from django.urls import URLPattern, URLResolver, get_resolver

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def all_routes() -> list[str]:
    """Paths with their parameters in angle brackets, such as `/api/v1/plans/<slug>`."""
    paths = (simplify_regex(route).replace("<path:", "<") for route in _walk(get_resolver().url_patterns))
    return [path.rstrip("/") or "/" for path in paths]


def api_routes() -> list[str]:
    return [path for path in all_routes() if not path.startswith("/admin/")]


def admin_routes() -> list[str]:
    return [path for path in all_routes() if path.startswith("/admin/")]


def _walk(patterns: list[URLPattern | URLResolver], prefix: str = "") -> Iterator[str]:
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            yield from _walk(pattern.url_patterns, prefix + str(pattern.pattern))
        else:
            yield prefix + str(pattern.pattern)
