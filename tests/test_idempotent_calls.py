"""Idempotency-Key on model calls, against the real web server: one call upstream, one charge, the same bytes."""

import asyncio
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import aiohttp
import orjson
import pytest
import time_machine
from django.utils import timezone

from accounts.caller import Caller
from conversations import services as conversations
from conversations.models import Conversation, Message
from inference import exchange
from inference import stub as stubs
from inference.background import drain
from inference.models import Model, Provider, Request
from inference.tasks import sweep_reservations
from quotas.idempotency import Attempt, claimed
from quotas.models import IdempotencyRecord, Quota
from tests.conftest import serve_models
from tests.test_leaving_callers import wait_until_settled
from tests.web import WebServer

CHAT, EMBEDDINGS = "/v1/chat/completions", "/v1/embeddings"
HELLO = [{"role": "user", "content": "Hello"}]
CALLS = {
    "chat": (CHAT, {"model": "instant", "messages": HELLO}),
    "stream": (CHAT, {"model": "instant", "messages": HELLO, "stream": True}),
    "embeddings": (EMBEDDINGS, {"model": "vectors", "input": "Hello"}),
}
NOTHING = {"llm.requests": (0, 0), "llm.tokens": (0, 0), "embedding.tokens": (0, 0)}


@pytest.fixture
def call(web, account):
    def run(path, body, key="k", of=account, **headers):
        with web.client(of.key, verify=False) as client:
            return client.post(path, json=body, headers={"Idempotency-Key": key, **headers})

    return run


def chat(model, **fields):
    return CHAT, {"model": model, "messages": HELLO, **fields}


def code(answer):
    return answer.status_code, answer.json()["error"]["code"]


def charged(account):
    usage = account.usage()
    return usage["llm.requests"], usage["llm.tokens"]


@pytest.mark.parametrize("kind", CALLS)
def test_the_same_call_again_is_answered_from_the_record(call, account, make_account, stub, kind):
    path, body = CALLS[kind]
    first, again = (call(path, order) for order in (body, dict(reversed(body.items()))))

    assert first.status_code == again.status_code == 200
    assert first.content == again.content
    assert first.headers["content-type"] == again.headers["content-type"]
    assert ("idempotent-replayed" in first.headers, again.headers["idempotent-replayed"]) == (False, "true")
    assert first.headers["x-request-id"] != again.headers["x-request-id"]
    request = Request.objects.get()
    record = IdempotencyRecord.objects.get()
    assert (record.pk, record.status) == (request.reservation_id, "done")
    assert request.reservation.idempotency_key == "k"
    assert sum(used for used, _held in account.usage().values()) == (20 if kind == "embeddings" else 71)
    assert len(stub.requests) == 1

    assert code(call(path, body | {"user": "x"})) == (422, "idempotency_key_reused")
    assert call(path, body, of=make_account()).status_code == 200
    assert call(path, body, key="another").status_code == 200
    assert len(stub.requests) == 3


def test_a_call_that_is_kept_in_a_conversation_is_kept_once(call, account):
    talk, other = (str(Conversation.objects.create(user=account.user).pk) for _ in range(2))

    answers = [call(*chat("instant"), **{"X-Conversation-ID": talk}) for _ in range(2)]

    assert answers[0].content == answers[1].content
    assert Message.objects.filter(conversation_id=talk).count() == 2
    assert code(call(*chat("instant"), **{"X-Conversation-ID": other})) == (422, "idempotency_key_reused")
    assert call(*chat("instant")).status_code == 422


@pytest.mark.parametrize("stream", [False, True])
def test_of_8_at_once_one_is_carried_out(call, account, stub, stream):
    asked = chat("paced-5" if stream else "slow-300", stream=stream)
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: call(*asked), range(8)))

    (first,) = (answer for answer in answers if answer.is_success and "idempotent-replayed" not in answer.headers)
    for answer in [*answers, call(*asked)]:
        if answer.is_success:
            assert answer.content == first.content
        else:
            assert code(answer) == (409, "idempotency_key_in_use")
            assert answer.headers["retry-after"] == "1"
    assert len(stub.requests) == 1
    assert charged(account) == ((1, 0), (70, 0))


@pytest.mark.parametrize("stream", [True, False])
def test_who_leaves_and_asks_again_gets_the_whole_answer(web, call, account, stub, stream):
    Model.objects.create(name="slow-900", upstream_name="slow-900", provider=Provider.objects.get())
    path, body = chat("paced-20" if stream else "slow-900", stream=stream)

    async def leave() -> None:
        headers = {"Authorization": f"Bearer {account.key}", "Idempotency-Key": "k"}
        async with aiohttp.ClientSession(web.url, headers=headers) as session:
            if stream:
                async with session.post(path, json=body) as response:
                    await response.content.readany()
                    response.close()
            else:
                with pytest.raises(TimeoutError):
                    await session.post(path, json=body, timeout=aiohttp.ClientTimeout(total=0.1))

    asyncio.run(leave())
    assert code(call(path, body)) == (409, "idempotency_key_in_use")
    wait_until_settled()
    answer = call(path, body)

    assert answer.headers["idempotent-replayed"] == "true"
    if stream:
        *events, done = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
        deltas = [orjson.loads(event)["choices"][0]["delta"] for event in events]
        assert ("".join(delta.get("content", "") for delta in deltas), done) == (stubs.TEXT, "[DONE]")
    else:
        assert answer.json()["choices"][0]["message"]["content"] == stubs.TEXT
    assert len(stub.requests) == 1
    assert not stub.closed_early
    assert charged(account) == ((1, 0), (70, 0))
    assert Request.objects.get().status == "success"


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_that_failed_and_cost_nothing_is_really_tried_again(call, account, stream):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    provider = Provider.objects.create(name="down", base_url=f"http://127.0.0.1:{port}/v1")
    name = f"down-{stream}"
    Model.objects.create(name=name, upstream_name="instant", provider=provider)

    assert code(call(*chat(name, stream=stream))) == (502, "upstream_error")
    assert not IdempotencyRecord.objects.exists()
    assert account.usage() == NOTHING
    with stubs.StubServer(port=port) as up:
        assert [call(*chat(name, stream=stream)).status_code for _ in range(2)] == [200, 200]
        assert len(up.requests) == 1
    assert charged(account) == ((1, 0), (70, 0))
    assert sorted(Request.objects.values_list("status", flat=True)) == ["error", "success"]


def test_what_was_refused_frees_the_key(call, account):
    Quota.objects.filter(pk=account.requests.pk).update(base_limit=0, limit=0)

    assert call(*chat("instant")).status_code == 429
    assert call(*chat("nothing-like-it")).status_code == 404
    assert call(*chat("instant", stream="yes")).status_code == 400
    assert call(*chat("refuse-400")).status_code == 429
    Quota.objects.filter(pk=account.requests.pk).update(base_limit=5, limit=5)
    assert call(*chat("refuse-400")).status_code == 400
    assert [call(*chat("instant")).status_code for _ in range(2)] == [200, 200]
    assert code(call(*chat("instant"), key="x" * 256)) == (400, "invalid_value")
    assert charged(account) == ((1, 0), (70, 0))


def test_a_stream_that_broke_was_charged_and_is_answered_again_as_it_was(call, account, stub):
    first, again = (call(*chat("die-midstream", stream=True)) for _ in range(2))

    assert first.content == again.content
    assert b"upstream_error" in first.content
    assert len(stub.requests) == 1
    assert charged(account)[0] == (1, 0)
    assert Request.objects.get().usage == "estimated"


@pytest.mark.parametrize(("size", "stream"), [(2**20, False), (2**20, True), (5 * 2**20, False), (5 * 2**20, True)])
def test_large_answers_are_kept_up_to_a_limit(call, account, stub, size, stream):
    asked = chat("echo", stream=stream, padding="x" * size)
    first, again = (call(*asked) for _ in range(2))

    assert len(first.content) > size
    assert len(stub.requests) == 1
    assert charged(account)[0] == (1, 0)
    if size == 2**20:
        assert first.content == again.content
    else:
        assert code(again) == (409, "idempotency_answer_not_kept")
        assert again.headers["x-should-retry"] == "false"


# Processes that end ----------------------------------------------------------------------------------------------


@pytest.fixture
def opened(account, stub):
    """Opens a call, as a process does that may be killed then; the key is free if it can be claimed."""
    serve_models(stub)
    caller = Caller(user_id=account.user.pk)

    def run():
        with claimed(user_id=caller.user_id, attempt=Attempt("k", f"POST {CHAT}", "0")) as claim:
            return conversations.open_chat(caller=caller, payload=chat("instant")[1], claim=claim)

    return run


def test_a_call_whose_process_died_costs_nothing_and_frees_the_key(opened, account, settings):
    turn = opened()
    with time_machine.travel(timezone.now() + timedelta(seconds=settings.CALL_DEADLINE_SECONDS)):
        sweep_reservations()
        assert IdempotencyRecord.objects.exists()
    with time_machine.travel(timezone.now() + timedelta(seconds=settings.CALL_DEADLINE_SECONDS + 61)):
        sweep_reservations()

    request = Request.objects.get()
    assert (request.status, request.error_code, request.usage) == ("error", "abandoned", "none")
    assert (request.reservation.status, account.usage()) == ("released", NOTHING)
    second = opened()
    # What the first one still brings is not written down under the key of the second.
    turn.call.outcome.usage = "reported"
    turn.settle()
    assert IdempotencyRecord.objects.get().pk == second.call.reservation_id
    assert IdempotencyRecord.objects.get().status == "running"
    assert account.usage()["llm.requests"] == (0, 1)


def test_who_leaves_before_the_model_is_asked_pays_nothing_and_the_key_is_free(opened, account, stub):
    del stub.requests[:]

    def slowly():
        time.sleep(0.05)
        return opened()

    async def leave():
        beginning = asyncio.create_task(exchange.begin(slowly))
        await asyncio.sleep(0.01)
        beginning.cancel()
        with pytest.raises(asyncio.CancelledError):
            await beginning
        await drain()

    asyncio.run(leave())

    assert (Request.objects.get().status, Request.objects.get().usage) == ("cancelled", "none")
    assert account.usage() == NOTHING
    assert not IdempotencyRecord.objects.exists()
    assert not stub.requests


@pytest.mark.drill
def test_a_server_that_is_stopped_keeps_what_a_caller_who_has_left_was_charged_for(account, stub, transactional_db):
    serve_models(stub)
    path, body = chat("paced-20", stream=True)

    async def leave(web: WebServer) -> None:
        headers = {"Authorization": f"Bearer {account.key}", "Idempotency-Key": "k"}
        async with (
            aiohttp.ClientSession(web.url, headers=headers) as session,
            session.post(path, json=body) as response,
        ):
            await response.content.readany()
            response.close()

    with WebServer() as web:
        asyncio.run(leave(web))
        time.sleep(0.2)

    request = Request.objects.get()
    assert (request.status, request.error_code, request.usage) == ("error", "server_stopping", "estimated")
    record = IdempotencyRecord.objects.get()
    assert record.status == "done"
    assert b"server_stopping" in bytes(record.body)
    assert charged(account) == ((1, 0), (request.input_tokens + request.output_tokens, 0))
