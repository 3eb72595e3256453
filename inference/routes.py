"""Which places a public model name may be had at, in the order in which they are tried."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from inference.exceptions import ModelNotFound
from inference.models import Model

# An edit in the admin is seen by every process within this time.
CACHE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Route:
    """One model row with its provider, as the road needs it."""

    name: str
    kind: str
    upstream_name: str
    provider: str
    base_url: str
    api_key: str = field(repr=False)
    connect_timeout: int
    read_timeout: int
    input_price: int
    output_price: int
    context_window: int | None
    max_output_tokens: int | None

    @classmethod
    def of(cls, model: Model) -> Route:
        provider = model.provider
        return cls(
            name=model.name,
            kind=model.kind,
            upstream_name=model.upstream_name,
            provider=provider.name,
            base_url=provider.base_url.rstrip("/"),
            api_key=provider.api_key,
            connect_timeout=provider.connect_timeout,
            read_timeout=provider.read_timeout,
            input_price=model.input_price,
            output_price=model.output_price,
            context_window=model.context_window,
            max_output_tokens=model.max_output_tokens,
        )

    def cost(self, *, input_tokens: int, output_tokens: int) -> int:
        """Micro-USD, rounded up."""
        return -(-(input_tokens * self.input_price + output_tokens * self.output_price) // 1_000_000)


_cache: dict[tuple[str, str], tuple[float, tuple[Route, ...]]] = {}


def routes_for(name: str, kind: str) -> tuple[Route, ...]:
    """The usable routes of a public name, first to be tried first; `ModelNotFound` if there is none."""
    now = time.monotonic()
    cached = _cache.get((name, kind))
    if cached is not None and cached[0] > now:
        return cached[1]
    routes = tuple(Route.of(model) for model in Model.objects.usable().filter(name=name, kind=kind))
    if not routes:
        # Callers choose the names of unknown models, so these must not fill the cache.
        _cache.pop((name, kind), None)
        raise ModelNotFound(name)
    _cache[name, kind] = (now + CACHE_SECONDS, routes)
    return routes


def forget_routes() -> None:
    """Drop this process's copy; for the process that has just edited a model, and for tests."""
    _cache.clear()
