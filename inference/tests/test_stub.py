"""The stub itself: every test that measures something against it relies on what is here."""

import asyncio
import base64
import struct
import time
from collections.abc import AsyncIterator, Iterator

import aiohttp
import orjson
import pytest

from inference import stub as stubs
from inference.stub import StubServer


@pytest.fixture
def stub() -> Iterator[StubServer]:
    with StubServer() as server:
        yield server


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        yield session


def chat(client: aiohttp.ClientSession, stub: StubServer, model: str, **fields):
    payload = {"model": model, "messages": [{"role": "user", "content": "Hello"}], **fields}
    return client.post(f"{stub.base_url}/chat/completions", json=payload)


async def events(response: aiohttp.ClientResponse) -> list[bytes]:
    body = await response.read()
    return [line[6:] for line in body.split(b"\n\n") if line]


def test_it_is_threaded_and_ends_clean():
    with StubServer() as server:
        thread = server._thread
        assert server.port > 0
        assert thread.is_alive()
    assert not thread.is_alive()


async def test_it_runs_in_the_running_loop_too(client):
    async with StubServer() as server, chat(client, server, "instant") as response:
        assert response.status == 200
    assert server.open_connections == 0
    assert server.closed_early == []


async def test_whole_answer(client, stub):
    async with chat(client, stub, "instant") as response:
        answer = await response.json()
    assert answer["model"] == "instant"
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": stubs.TEXT}
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"] == {"prompt_tokens": 20, "completion_tokens": 50, "total_tokens": 70}


async def test_requests_are_kept_as_they_came(client, stub):
    async with client.post(f"{stub.base_url}/embeddings", json={"model": "m", "input": "x"}, headers={"X-A": "b"}):
        pass
    (received,) = stub.requests
    assert received.path == "/v1/embeddings"
    assert received.headers["x-a"] == "b"
    assert received.body == {"model": "m", "input": "x"}
    assert received.at <= time.monotonic()


async def test_keep_alive_and_other_addresses(client, stub):
    async with client.get(f"http://127.0.0.1:{stub.port}/health") as response:
        assert response.status == 200
    async with client.get(f"{stub.base_url}/nothing") as response:
        assert response.status == 404
    assert stub.open_connections == 1
    assert stub.requests == []


@pytest.mark.parametrize("asked", [True, False])
async def test_stream(client, stub, asked):
    async with chat(client, stub, "instant", stream=True, stream_options={"include_usage": asked}) as response:
        assert response.content_type == "text/event-stream"
        *chunks, done = await events(response)
    assert done == b"[DONE]"
    chunks = [orjson.loads(chunk) for chunk in chunks]
    assert len(chunks) == 50 + 1 + asked
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": "The "}
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks[:50]) == stubs.TEXT
    assert chunks[50]["choices"][0] == {"index": 0, "delta": {}, "finish_reason": "stop"}
    if asked:
        assert chunks[51]["choices"] == []
        assert chunks[51]["usage"]["completion_tokens"] == 50


async def test_several_choices(client, stub):
    async with chat(client, stub, "instant", n=2) as response:
        assert len((await response.json())["choices"]) == 2
    async with chat(client, stub, "instant", n=2, stream=True) as response:
        *chunks, _done = await events(response)
    assert {orjson.loads(chunk)["choices"][0]["index"] for chunk in chunks} == {0, 1}
    assert len(chunks) == 102


async def test_slow_and_paced_take_their_time(client, stub):
    begun = time.monotonic()
    async with chat(client, stub, "slow-50"):
        assert time.monotonic() - begun >= 0.05
    begun = time.monotonic()
    async with chat(client, stub, "paced-2", stream=True) as response:
        assert (await events(response))[-1] == b"[DONE]"
    assert time.monotonic() - begun >= 51 * 0.002
    async with chat(client, stub, "paced-2") as response:
        assert (await response.json())["choices"][0]["message"]["content"] == stubs.TEXT


async def test_echo(client, stub):
    async with chat(client, stub, "echo", seed=7) as response:
        content = (await response.json())["choices"][0]["message"]["content"]
    assert orjson.loads(content)["seed"] == 7
    async with chat(client, stub, "echo", stream=True) as response:
        first, *_rest = await events(response)
    assert orjson.loads(orjson.loads(first)["choices"][0]["delta"]["content"])["stream"] is True


async def test_tools(client, stub):
    async with chat(client, stub, "tools") as response:
        choice = (await response.json())["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["tool_calls"][0]["function"] == stubs.TOOL
    async with chat(client, stub, "tools", stream=True) as response:
        *chunks, _done = await events(response)
    calls = [orjson.loads(chunk)["choices"][0]["delta"].get("tool_calls", []) for chunk in chunks]
    assert "".join(call["function"]["arguments"] for (call,) in filter(None, calls)) == stubs.TOOL["arguments"]


async def test_no_usage(client, stub):
    async with chat(client, stub, "no-usage") as response:
        assert "usage" not in await response.json()
    async with chat(client, stub, "no-usage", stream=True, stream_options={"include_usage": True}) as response:
        assert b'"usage"' not in await response.read()


@pytest.mark.parametrize(
    ("model", "status", "code"), [("error-503", 503, "invalid_api_key"), ("refuse-422", 422, None)]
)
async def test_errors_have_the_shape_that_clients_know(client, stub, model, status, code):
    async with chat(client, stub, model) as response:
        error = (await response.json())["error"]
    assert response.status == status
    assert (stubs.SECRET in error["message"]) == model.startswith("error")
    assert error["param"] == (None if code else "temperature")


async def test_hang_is_noticed_to_be_left(client, stub):
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(chat(client, stub, "hang"), 0.05)
    left = await asyncio.to_thread(stub.wait_closed_early)
    assert [one.model for one in left] == ["hang"]
    assert left[0].at <= time.monotonic()


async def test_die(client, stub):
    with pytest.raises(aiohttp.ServerDisconnectedError):
        async with chat(client, stub, "die"):
            pass
    assert stub.closed_early == []


@pytest.mark.parametrize("model", ["die-midstream", "hang-midstream", "garbage-midstream", "early-end"])
async def test_trouble_after_three_chunks(client, stub, model):
    seen = b""
    try:
        async with asyncio.timeout(0.2), chat(client, stub, model, stream=True) as response:
            async for data in response.content.iter_any():
                seen += data
        how = "end"
    except (TimeoutError, aiohttp.ClientPayloadError) as error:
        how = type(error).__name__
    assert seen.count(b'"content"') == stubs.CHUNKS_BEFORE_TROUBLE
    assert b"[DONE]" not in seen
    assert b'finish_reason":"' not in seen
    assert (b"{not json" in seen) == (model == "garbage-midstream")
    assert how == {"die-midstream": "ClientPayloadError", "hang-midstream": "TimeoutError"}.get(model, "end")


async def test_garbage(client, stub):
    async with chat(client, stub, "garbage") as response:
        assert response.status == 200
        with pytest.raises(orjson.JSONDecodeError):
            orjson.loads(await response.read())
    async with chat(client, stub, "garbage-stream", stream=True) as response:
        assert await events(response) == [b"{not json"]


@pytest.mark.parametrize(
    ("value", "count"), [("one", 1), (["one", "two"], 2), ([1, 2, 3], 1), ([[1, 2], [3]], 2), ([], 1)]
)
async def test_embeddings(client, stub, value, count):
    async with client.post(f"{stub.base_url}/embeddings", json={"model": "m", "input": value}) as response:
        answer = await response.json()
    assert [len(row["embedding"]) for row in answer["data"]] == [8] * count
    assert answer["usage"]["prompt_tokens"] == stubs.INPUT_TOKENS


async def test_embedding_encodings(client, stub):
    asked = {"input": "one", "dimensions": 4, "encoding_format": "base64"}
    async with client.post(f"{stub.base_url}/embeddings", json=asked | {"model": "m"}) as response:
        packed = (await response.json())["data"][0]["embedding"]
    async with client.post(f"{stub.base_url}/embeddings", json=asked | {"model": "float-only"}) as response:
        numbers = (await response.json())["data"][0]["embedding"]
    assert list(struct.unpack("<4f", base64.b64decode(packed))) == numbers == stubs.vector_of("one", 4)
