"""Idempotency keys on the wire: reading the header, and answering again."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import wraps
from hashlib import sha256
from typing import Any

import orjson
from django.http import HttpRequest, HttpResponse
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.exceptions import InvalidInput
from accounts.views import caller_of
from quotas.idempotency import HEADER, JSON_HEADERS, Answer, AnsweredBefore, Attempt, claim, finish
from quotas.services import holding

REPLAYED = "Idempotent-Replayed"
KEY = re.compile(r"[\x20-\x7e]{1,255}")


def attempt_of(request: HttpRequest, *asked: Any) -> Attempt | None:
    """The call, if its caller has given it a key; `InvalidInput` if the key makes no sense.

    `asked` is what decides on the answer besides the address: the body as parsed, and headers.
    """
    key = request.headers.get(HEADER)
    return None if key is None else _attempt(request, key, *asked)


def _attempt(request: HttpRequest, key: str, *asked: Any) -> Attempt:
    if not KEY.fullmatch(key):
        raise InvalidInput(f"{HEADER} must have 1 to 255 printable ASCII characters.", param=HEADER)
    endpoint = f"{request.method} {request.path.rstrip('/')}"
    fingerprint = sha256(orjson.dumps([endpoint, *asked], option=orjson.OPT_SORT_KEYS)).hexdigest()
    return Attempt(key, endpoint[:200], fingerprint)


def replay(answer: Answer) -> HttpResponse:
    return HttpResponse(answer.body, status=answer.status, headers={**answer.headers, REPLAYED: "true"})


def idempotent(action: Callable[..., Response]) -> Callable[..., Response | HttpResponse]:
    """A DRF action that honours `Idempotency-Key`: what it does and its answer are one transaction then.

    An error undoes it all, and the key is free again.
    """

    @wraps(action)
    def wrapped(self: Any, request: Request, **arguments: Any) -> Response | HttpResponse:
        key = request.headers.get(HEADER)
        if key is None:
            return action(self, request, **arguments)
        attempt = _attempt(request._request, key, request.data)
        try:
            with holding():
                own = claim(user_id=caller_of(request).user_id, attempt=attempt)
                answer = _rendered(request, action(self, request, **arguments))
                finish(own.id, answer)
        except AnsweredBefore as before:
            return replay(before.answer)
        return HttpResponse(answer.body, status=answer.status, headers=answer.headers)

    wrapped.is_idempotent = True  # type: ignore[attr-defined]
    return wrapped


def _rendered(request: Request, response: Response) -> Answer:
    body = request.accepted_renderer.render(response.data, request.accepted_media_type)
    return Answer(response.status_code, JSON_HEADERS, body if isinstance(body, bytes) else body.encode())
