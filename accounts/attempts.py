"""How often one address, or one person, may try what can be guessed or misused: a fixed window of django-ratelimit."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpRequest
from django_ratelimit.core import get_usage

from accounts.exceptions import TooManyRequests

View = Callable[..., Any]


def ratelimit(*, key: str | Callable[..., str], rate: Callable[..., str], method: str) -> Callable[[View], View]:
    """As the decorator of that name in django-ratelimit, but who is refused is told for how long.

    The view raises `TooManyRequests`.
    """

    def decorate(view: View) -> View:
        @wraps(view)
        def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            usage = get_usage(request, fn=view, key=key, rate=rate, method=method, increment=True)
            if usage is not None and usage["should_limit"]:
                # The last second of a window belongs to it.
                raise TooManyRequests(retry_after=usage["time_left"] + 1)
            return view(request, *args, **kwargs)

        return wrapped

    return decorate
