"""Whatever goes wrong on the road: a clear error in the one shape, the hold let go, the truth on record."""

import time

import orjson
import pytest

from inference import stub as stubs
from inference.models import Model, Price, Provider, Request

HELLO = [{"role": "user", "content": "Hello"}]
NOTHING = {"llm.requests": (0, 0), "llm.tokens": (0, 0), "embedding.tokens": (0, 0)}


def chat(web, account, model, **fields):
    with web.client(account.key) as client:
        return client.post("/v1/chat/completions", json={"model": model, "messages": HELLO, **fields})


def events(response):
    return [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]


FAILURES = [
    ("die", 502, "upstream_error"),
    ("error-500", 502, "upstream_error"),
    ("error-401", 502, "upstream_error"),
    ("error-404", 502, "upstream_error"),
    ("error-429", 502, "upstream_overloaded"),
    ("garbage", 502, "upstream_error"),
    ("refuse-400", 400, "invalid_value"),
    ("hang", 504, "deadline"),
]


@pytest.mark.parametrize(
    ("model", "status", "code", "stream"),
    [(*failure, stream) for failure in FAILURES for stream in (False, True)]
    + [("garbage-stream", 502, "upstream_error", True)],
)
def test_a_call_that_fails_before_its_first_byte_costs_nothing(web, account, model, status, code, stream):
    response = chat(web, account, model, stream=stream)

    assert response.status_code == status
    assert response.json()["error"]["code"] == code
    assert stubs.SECRET not in response.text
    assert account.usage() == NOTHING
    request = Request.objects.get()
    assert request.status == "error"
    assert request.usage == "none"
    assert request.reservation.status == "released"
    assert stubs.SECRET not in request.error_message


@pytest.mark.parametrize("model", ["die-midstream", "garbage-midstream", "early-end", "hang-midstream"])
def test_a_stream_that_breaks_says_so_and_what_was_delivered_is_charged(web, account, model):
    response = chat(web, account, model, stream=True)

    assert response.status_code == 200
    *chunks, last = map(orjson.loads, events(response))
    assert len(chunks) == stubs.CHUNKS_BEFORE_TROUBLE
    assert last["error"]["code"] == ("deadline" if model == "hang-midstream" else "upstream_error")
    assert "[DONE]" not in response.text
    request = Request.objects.get()
    assert (request.status, request.usage) == ("error", "estimated")
    assert request.error_code == last["error"]["code"]
    assert 0 < request.output_tokens < 20
    delivered = "".join(stubs.WORDS[: stubs.CHUNKS_BEFORE_TROUBLE])
    assert request.response_data["choices"][0]["message"]["content"] == delivered
    assert account.usage()["llm.requests"] == (1, 0)
    assert account.usage()["llm.tokens"] == (request.input_tokens + request.output_tokens, 0)


def test_without_reported_usage_it_is_estimated(web, account):
    assert chat(web, account, "no-usage").status_code == 200
    request = Request.objects.get()
    assert request.usage == "estimated"
    assert request.output_tokens > 20
    assert account.usage()["llm.tokens"] == (request.input_tokens + request.output_tokens, 0)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("first", ["die", "error-500", "garbage", "error-401", "unreachable"])
def test_the_next_model_in_order_answers_when_the_first_fails(web, account, stub, first, stream):
    provider = Provider.objects.get(name="stub")
    broken = Provider.objects.create(name="broken", base_url="http://127.0.0.1:9/v1")
    name = f"both-{first}-{stream}"
    Model.objects.create(
        name=name, upstream_name=first, provider=broken if first == "unreachable" else provider, fallback_order=0
    )
    working = Provider.objects.create(name="working", base_url=stub.base_url)
    Model.objects.create(name=name, upstream_name="instant", provider=working, fallback_order=1)

    response = chat(web, account, name, stream=stream)

    assert response.status_code == 200
    assert name in response.text
    request = Request.objects.get()
    assert (request.status, request.provider, request.output_tokens) == ("success", "working", 50)
    assert account.usage()["llm.requests"] == (1, 0)


def test_the_price_is_that_of_the_model_that_answered(web, account):
    """Also when both are to be had at one provider."""
    provider = Provider.objects.get(name="stub")
    for order, (upstream, price) in enumerate([("error-500", 9_000_000), ("instant", 2_000_000)]):
        model = Model.objects.create(name="two-prices", upstream_name=upstream, provider=provider, fallback_order=order)
        Price.objects.create(model=model, unit="output_tokens", price=price)
    assert chat(web, account, "two-prices").status_code == 200
    assert Request.objects.get().cost == 2 * stubs.OUTPUT_TOKENS


def test_a_refusal_is_the_callers_and_is_not_tried_elsewhere(web, account, stub):
    working = Provider.objects.create(name="working", base_url=stub.base_url)
    Model.objects.create(name="refuse-400", upstream_name="instant", provider=working, fallback_order=1)
    assert chat(web, account, "refuse-400").status_code == 400
    assert [request.model for request in stub.requests] == ["refuse-400"]


def test_a_silent_model_server_is_given_up_after_its_read_timeout(web, account):
    Provider.objects.create(name="impatient", base_url=Provider.objects.get().base_url, read_timeout=1)
    Model.objects.create(name="impatient", upstream_name="hang", provider=Provider.objects.get(name="impatient"))
    begun = time.monotonic()
    response = chat(web, account, "impatient")
    assert response.json()["error"]["code"] == "upstream_timeout"
    assert response.status_code == 504
    assert time.monotonic() - begun < 2.5


def test_the_key_of_the_provider_is_sent_and_never_seen(web, account, stub):
    response = chat(web, account, "echo")
    assert stub.requests[0].headers["authorization"] == "Bearer sk-of-the-provider"
    assert "sk-of-the-provider" not in response.text
    assert account.key not in str(stub.requests[0].headers)


@pytest.mark.parametrize("stream", [False, True])
def test_what_a_quota_does_not_cover_never_reaches_the_model(web, make_account, stub, stream):
    account = make_account(tokens=30)
    response = chat(web, account, "instant", stream=stream, max_tokens=100)
    assert (response.status_code, response.json()["error"]["code"]) == (429, "insufficient_quota")
    assert account.usage() == NOTHING
    assert not Request.objects.exists()
    assert not stub.requests


def test_more_than_was_held_is_charged_as_far_as_the_quota_has_room(web, make_account):
    account = make_account(tokens=60)
    assert chat(web, account, "instant", max_tokens=1).status_code == 200
    assert account.usage()["llm.tokens"] == (60, 0)
    request = Request.objects.get()
    assert request.input_tokens + request.output_tokens == 70
    assert request.reservation.used["llm.tokens"] == 70
    assert request.reservation.charged[str(account.tokens.pk)] == 60


def chatting(fields: bytes) -> bytes:
    return b'{"model": "instant", "messages": [{"role": "user", "content": "x"}], ' + fields + b"}"


def saying(content: bytes) -> bytes:
    return b'{"model": "instant", "messages": [{"role": "user", "content": ' + content + b"}]}"


BAD_BODIES = {
    "malformed": (b'{"model": "instant", "messages": [', 400, "invalid_json"),
    "empty": (b"", 400, "invalid_json"),
    "not an object": (b"[1, 2]", 400, "invalid_type"),
    "nested": (saying(b"[" * 50 + b"]" * 50), 400, "json_too_deep"),
    "NUL": (saying(b'"a\\u0000b"'), 400, "nul_character"),
    "raw NUL": (b'{"model": "instant\x00"}', 400, "invalid_json"),
    "not UTF-8": (b'{"model": "\xff"}', 400, "invalid_json"),
    "lone surrogate": (saying(b'"\\ud800"'), 400, "invalid_json"),
    "no model": (b'{"messages": [{"role": "user", "content": "x"}]}', 400, "required"),
    "model of a wrong type": (b'{"model": 5, "messages": [{"role": "user", "content": "x"}]}', 400, "required"),
    "messages of a wrong type": (b'{"model": "instant", "messages": "Hello"}', 400, "invalid_value"),
    "message of a wrong type": (b'{"model": "instant", "messages": ["Hello"]}', 400, "invalid_value"),
    "stream of a wrong type": (chatting(b'"stream": "yes"'), 400, "invalid_type"),
    "options of a wrong type": (chatting(b'"stream_options": 1'), 400, "invalid_type"),
    "negative maximum": (chatting(b'"max_tokens": -1'), 400, "invalid_type"),
    "huge maximum": (chatting(b'"max_tokens": 1e300'), 400, "invalid_type"),
    "huge number of choices": (chatting(b'"n": 99999999999'), 400, "invalid_type"),
    "model for another kind": (b'{"model": "vectors", "messages": [{"role": "user"}]}', 404, "model_not_found"),
    "20 MB": (saying(b'"' + b"x" * 20_000_000 + b'"'), 413, "request_too_large"),
}


@pytest.mark.parametrize("body", BAD_BODIES)
def test_bad_input_is_refused_in_the_one_shape_and_changes_nothing(web, account, stub, body):
    content, status, code = BAD_BODIES[body]
    with web.client(account.key) as client:
        response = client.post("/v1/chat/completions", content=content, headers={"Content-Type": "application/json"})

    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert set(response.json()["error"]) >= {"message", "type", "param", "code"}
    assert account.usage() == NOTHING
    assert not Request.objects.exists()
    assert not stub.requests


def test_a_body_without_a_declared_size_is_limited_too(web, account):
    def chunks():
        for _ in range(20):
            yield b"x" * 1_000_000

    with web.client(account.key) as client:
        response = client.post("/v1/chat/completions", content=chunks())
    assert (response.status_code, response.json()["error"]["code"]) == (413, "request_too_large")


@pytest.mark.parametrize(
    "payload",
    [
        {"model": "vectors"},
        {"model": "vectors", "input": ""},
        {"model": "vectors", "input": []},
        {"model": "vectors", "input": [""]},
        {"model": "vectors", "input": {"a": 1}},
        {"model": "vectors", "input": ["a", 1]},
        {"model": "vectors", "input": [[]]},
        {"model": "vectors", "input": [1.5]},
        {"model": "vectors", "input": "a", "encoding_format": "hex"},
        {"model": "vectors", "input": "a", "encoding_format": ["base64"]},
    ],
)
def test_bad_embedding_input_is_refused(web, account, payload, stub):
    with web.client(account.key) as client:
        response = client.post("/v1/embeddings", json=payload)
    assert response.status_code == 400
    assert response.json()["error"]["param"] in {"input", "encoding_format"}
    assert account.usage() == NOTHING
    assert not stub.requests
