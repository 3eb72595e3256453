"""Which places a public model name may be had at, in the order in which they are tried."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from inference.exceptions import ModelNotFound
from inference.models import Model, Price

# How much of each unit; the cached input tokens are among the input tokens.
Amounts = Mapping[Price.Unit, int]
# The prices of each unit with the instants from which they are valid, latest first.
PriceList = Mapping[str, tuple[tuple[datetime, int], ...]]

# An edit in the admin is seen by every process within this time.
CACHE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Route:
    """One model row with its provider and all of its prices, as the road needs it.

    Prices that are yet to come are among them: a route that is kept for a while is right at any instant.
    """

    name: str
    kind: str
    upstream_name: str
    provider: str
    base_url: str
    api_key: str = field(repr=False)
    connect_timeout: int
    read_timeout: int
    prices: PriceList = field(hash=False)
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
            prices=price_list(model.prices.all()),
            context_window=model.context_window,
            max_output_tokens=model.max_output_tokens,
        )

    def price(self, unit: Price.Unit, at: datetime) -> int | None:
        """Micro-USD for a million units, as valid at an instant; None where there is no price."""
        return next((price for valid_from, price in self.prices.get(unit, ()) if valid_from <= at), None)

    def cost(self, amounts: Amounts, *, at: datetime) -> int:
        """Micro-USD, rounded up, at the prices that are valid at `at`."""
        if not self.prices:
            return 0
        return -(-sum(amount * (self.price(unit, at) or 0) for unit, amount in self._sold(amounts, at)) // 1_000_000)

    def _sold(self, amounts: Amounts, at: datetime) -> Iterable[tuple[Price.Unit, int]]:
        """The amounts as they are charged: cached input tokens at their own price, where there is one."""
        cached = amounts.get(Price.Unit.CACHED_INPUT_TOKENS, 0)
        if not cached:
            return amounts.items()
        if self.price(Price.Unit.CACHED_INPUT_TOKENS, at) is None:
            return [item for item in amounts.items() if item[0] != Price.Unit.CACHED_INPUT_TOKENS]
        return {**amounts, Price.Unit.INPUT_TOKENS: amounts[Price.Unit.INPUT_TOKENS] - cached}.items()


def price_list(prices: Iterable[Price]) -> PriceList:
    latest_first = sorted(prices, key=lambda price: price.valid_from, reverse=True)
    units = {price.unit for price in latest_first}
    return {unit: tuple((row.valid_from, row.price) for row in latest_first if row.unit == unit) for unit in units}


_cache: dict[tuple[str, str], tuple[float, tuple[Route, ...]]] = {}


def routes_for(name: str, kind: str) -> tuple[Route, ...]:
    """The usable routes of a public name, first to be tried first; `ModelNotFound` if there is none."""
    now = time.monotonic()
    cached = _cache.get((name, kind))
    if cached is not None and cached[0] > now:
        return cached[1]
    models = Model.objects.usable().filter(name=name, kind=kind).prefetch_related("prices")
    routes = tuple(Route.of(model) for model in models)
    if not routes:
        # Callers choose the names of unknown models, so these must not fill the cache.
        _cache.pop((name, kind), None)
        raise ModelNotFound(name)
    _cache[name, kind] = (now + CACHE_SECONDS, routes)
    return routes


def forget_routes() -> None:
    """Drop this process's copy; for the process that has just edited a model, and for tests."""
    _cache.clear()
