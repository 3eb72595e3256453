from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from django.http import HttpRequest, HttpResponse
from rest_framework.serializers import Serializer

from accounts.caller import Caller
from accounts.exceptions import NotFound
from accounts.scopes import Scope
from inference.background import in_thread
from inference.exceptions import UpstreamError
from inference.exchange import begin
from inference.payloads import parse_object
from inference.views import json_response, openai_view
from prompts.intents.classification import one_vector
from prompts.search import questions, searches
from prompts.search.finding import Asked, Filters
from prompts.search.modes import Mode
from prompts.search.questions import Question
from prompts.search.searches import NO_EMBEDDING, NO_QUOTA, Result, Search
from prompts.search_serializers import DraftSerializer, SearchQuerySerializer
from quotas.exceptions import QuotaExceeded
from quotas.idempotency import claimed
from quotas.idempotency_views import attempt_of
from quotas.throttling import admitted_caller

FILTERS = tuple(Filters.__dataclass_fields__)


@dataclass(frozen=True, slots=True)
class Begun:
    """Who searches, and the answer, if it takes no call. With `payload`, an idempotency key counts."""

    caller: Caller
    search: Search
    result: Result | None
    payload: dict[str, Any] | None = None


@openai_view("GET", Scope.PROMPTS)
async def search(request: HttpRequest) -> HttpResponse:
    """Prompts that the caller may see, best first. Without an embedding `hybrid` goes by words, and says so."""
    begun = await in_thread(lambda: _searched(request))
    result = await _found(request, begun)
    return json_response(result | {"next": _link(request, result["next"])})


@openai_view("POST", Scope.PROMPTS)
async def suggestions(request: HttpRequest) -> HttpResponse:
    """Prompts that are like a draft; without an embedding, that have words in common with it."""
    begun = await in_thread(lambda: _drafted(request))
    return json_response(await _found(request, begun))


async def _found(request: HttpRequest, begun: Begun) -> Result:
    if begun.result is not None:
        return begun.result
    try:
        exchange = await begin(lambda: _open_question(request, begun))
        await exchange.answer(one_vector)
    except (UpstreamError, NotFound):
        return await in_thread(lambda: begun.search.by_words(NO_EMBEDDING))
    except QuotaExceeded:
        if not begun.search.takes_words:
            raise
        return await in_thread(lambda: begun.search.by_words(NO_QUOTA))
    opened = exchange.opened
    assert isinstance(opened, Question)
    assert opened.result is not None
    return opened.result


def _searched(request: HttpRequest) -> Begun:
    caller = admitted_caller(request)
    query = _valid(SearchQuerySerializer(data=request.GET.dict()))
    filters = Filters(**{name: query.get(name) for name in FILTERS})
    asked = Asked(caller.user_id, query["q"], Mode(query["mode"]), query["limit"], filters)
    found = searches.begin(asked, query.get("cursor", ""))
    return Begun(caller, found, found.at_once())


def _drafted(request: HttpRequest) -> Begun:
    caller = admitted_caller(request)
    payload = parse_object(request.body)
    draft = _valid(DraftSerializer(data=payload))
    filters = Filters(kind=draft.get("kind"))
    asked = Asked(caller.user_id, draft["text"], Mode.SEMANTIC, draft["limit"], filters, any_word=True)
    found = searches.begin(asked)
    return Begun(caller, found, found.at_once(), payload)


def _valid(serializer: Serializer[Any]) -> dict[str, Any]:
    serializer.is_valid(raise_exception=True)
    return dict(serializer.validated_data)


def _open_question(request: HttpRequest, begun: Begun) -> Question:
    found = begun.search
    assert found.model is not None
    open_question = partial(
        questions.open_question,
        caller=begun.caller,
        text=found.asked.text,
        model=found.model,
        find=found.by_meaning,
    )
    if begun.payload is None:
        return open_question()
    with claimed(user_id=begun.caller.user_id, attempt=attempt_of(request, begun.payload)) as claim:
        return open_question(claim=claim)


def _link(request: HttpRequest, cursor: str | None) -> str | None:
    """The address of the next page."""
    if cursor is None:
        return None
    query = request.GET.copy()
    query["cursor"] = cursor
    return request.build_absolute_uri(f"{request.path}?{query.urlencode()}")
