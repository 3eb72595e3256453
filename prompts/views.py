from __future__ import annotations

from dataclasses import dataclass

import orjson
from django.http import HttpRequest, HttpResponse

from accounts.caller import Caller
from accounts.exceptions import NotFound
from accounts.scopes import Scope
from inference.background import in_thread
from inference.exceptions import UpstreamError
from inference.exchange import begin
from inference.payloads import parse_object
from inference.views import json_response, openai_view
from prompts.intents import classification
from prompts.intents.classification import NO_EMBEDDING, Basis, Classification, Result
from quotas.idempotency import JSON_HEADERS, Answer, Attempt, claimed, finish, free
from quotas.idempotency_views import attempt_of
from quotas.throttling import admitted_caller


@dataclass(frozen=True, slots=True)
class Asked:
    """Who wants a text classified, and the answer, if it takes no call."""

    caller: Caller
    attempt: Attempt | None
    text: str
    basis: Basis
    result: Result | None


@openai_view("POST", Scope.PROMPTS)
async def classify(request: HttpRequest) -> HttpResponse:
    """What the writer of a text wants. Without an embedding server its words decide, and the answer says so."""
    asked = await in_thread(lambda: _asked(request))
    if asked.result is not None:
        return json_response(asked.result)
    try:
        exchange = await begin(lambda: _open_classification(asked))
        await exchange.answer(classification.one_vector)
    except (UpstreamError, NotFound):
        return json_response(await in_thread(lambda: classification.by_words(asked.text, asked.basis, NO_EMBEDDING)))
    opened = exchange.opened
    assert isinstance(opened, Classification)
    return json_response(opened.result)


def _asked(request: HttpRequest) -> Asked:
    caller = admitted_caller(request)
    payload = parse_object(request.body)
    attempt = attempt_of(request, payload)
    text, basis = classification.checked_text(payload), classification.current_basis()
    # A key comes first: its answer may be another than the one that is to be had now.
    with claimed(user_id=caller.user_id, attempt=attempt) as claim:
        result = classification.without_call(text, basis)
        if claim is not None and result is not None:
            finish(claim.id, Answer(200, JSON_HEADERS, orjson.dumps(result)))
        elif claim is not None:
            # The call that is needed then claims it, in the transaction of its hold.
            free(claim.id)
    return Asked(caller, attempt, text, basis, result)


def _open_classification(asked: Asked) -> Classification:
    with claimed(user_id=asked.caller.user_id, attempt=asked.attempt) as claim:
        return classification.open_classification(caller=asked.caller, text=asked.text, basis=asked.basis, claim=claim)
