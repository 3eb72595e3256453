"""Model calls that Mainstay makes for itself, such as embedding what operators have written.

They go down the same road without its gate: a request row is opened before the call and finished after it, with what it
cost, but nothing is held on any quota, as nobody's it would be. The rows belong to a user of their own, who cannot sign
in. What a lost process leaves behind, the sweeper ends. docs/decisions/0012 says why.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.utils import timezone

from accounts.ids import uuid7
from accounts.models import User
from inference import rows, upstream
from inference.exceptions import UpstreamError, UpstreamRefused, UpstreamTimeout
from inference.models import Price, Request
from inference.payloads import bounded_copy, estimate_input_tokens
from inference.replies import TokenUsage, reported_usage, with_encoding
from inference.routes import Route, routes_for
from quotas.meters import Resource

USERNAME = "mainstay"


@dataclass(frozen=True, slots=True)
class Reply:
    """What a route answered, and how long the whole took, in milliseconds."""

    route: Route
    value: dict[str, Any]
    milliseconds: int


def embed(*, texts: list[str], model: str, dimensions: int) -> list[list[float]]:
    """A vector of `dimensions` numbers for each text, in order. For processes without an event loop.

    Raises `ModelNotFound` and `UpstreamError`.
    """
    routes = routes_for(model, Resource.EMBEDDING)
    payload = {"model": model, "input": texts, "dimensions": dimensions, "encoding_format": "float"}
    request = Request.objects.create(
        id=uuid7(),
        user=system_user(),
        request_type=Resource.EMBEDDING,
        model=model,
        usage=Request.Usage.ESTIMATED,
        input_tokens=estimate_input_tokens(payload),
        request_data=bounded_copy(payload, most=settings.HISTORY_BYTES),
    )
    try:
        reply = asyncio.run(_ask(routes, payload, expected=(len(texts), dimensions)))
    except UpstreamError as error:
        _finish(request, error=error)
        raise
    _finish(request, reply=reply)
    return [row["embedding"] for row in sorted(reply.value["data"], key=lambda row: row.get("index", 0))]


def system_user() -> User:
    """Whom the rows of these calls belong to: made when first needed, never active, without a password."""
    user, _created = User.objects.get_or_create(
        username=USERNAME, defaults={"full_name": "Mainstay itself", "is_active": False, "password": "!"}
    )
    return user


async def _ask(routes: tuple[Route, ...], payload: dict[str, Any], *, expected: tuple[int, int]) -> Reply:
    begun = time.monotonic()
    failure: UpstreamError = UpstreamError()
    try:
        async with asyncio.timeout(settings.CALL_DEADLINE_SECONDS):
            for route in routes:
                try:
                    async with upstream.post(route, payload) as response:
                        value = checked_vectors(await upstream.read_json(response), *expected)
                except UpstreamRefused:
                    raise
                except UpstreamError as error:
                    failure = error
                    continue
                return Reply(route, value, round((time.monotonic() - begun) * 1000))
        raise failure
    except TimeoutError:
        raise UpstreamTimeout from None
    finally:
        await upstream.close_session()


def checked_vectors(answer: dict[str, Any], count: int, dimensions: int) -> dict[str, Any]:
    """An embeddings answer with `count` vectors of `dimensions` numbers; else `UpstreamError`."""
    vectors = [row["embedding"] for row in with_encoding(answer, "float")["data"]]
    if len(vectors) != count or not all(_is_vector(vector, dimensions) for vector in vectors):
        raise UpstreamError(f"The model server answered with other vectors than {count} of {dimensions} numbers.")
    return answer


def _is_vector(value: Any, dimensions: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) == dimensions
        and all(isinstance(number, int | float) and abs(number) < 1e4 for number in value)
        and any(value)
    )


def _finish(request: Request, *, reply: Reply | None = None, error: UpstreamError | None = None) -> None:
    now = timezone.now()
    usage = TokenUsage(request.input_tokens, 0)
    reported = reported_usage(reply.value.get("usage")) if reply else None
    used = reported or usage
    amounts = {Price.Unit.REQUESTS: 1, Price.Unit.INPUT_TOKENS: used.input_tokens}
    rows.finish(
        rows.finishing(
            request_id=request.pk,
            status=Request.Status.SUCCESS if reply else Request.Status.ERROR,
            error_code=error.code[:60] if error else "",
            error_message=str(error)[:2000].replace("\0", "\ufffd") if error else "",
            provider=reply.route.provider if reply else "",
            usage=(Request.Usage.REPORTED if reported else Request.Usage.ESTIMATED) if reply else Request.Usage.NONE,
            input_tokens=used.input_tokens if reply else 0,
            cached_input_tokens=0,
            output_tokens=0,
            seconds=0,
            characters=0,
            cost=reply.route.cost(amounts, at=request.created_at) if reply else 0,
            processing_time=reply.milliseconds if reply else None,
            first_byte_time=None,
            response_data=None,
            finished_at=now,
        )
    )
