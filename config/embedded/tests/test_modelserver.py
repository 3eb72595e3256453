"""The local model server, spoken to by the official client."""

import asyncio
import math
import subprocess
import sys
import time

import numpy as np
import openai
import orjson
import pytest

from config.embedded.modelserver import embeddings, usage
from config.embedded.modelserver.protocol import ApiError
from config.embedded.paths import REPOSITORY
from config.embedded.process import wait_until
from config.embedded.tests.conftest import free_port

HELLO = [{"role": "user", "content": "Say hello."}]
ENDLESS = {"ignore_eos": True}


@pytest.fixture(scope="module")
def base_url():
    port = free_port()
    command = [sys.executable, "-m", "config.embedded.modelserver", "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.DEVNULL) as server:
        url = f"http://127.0.0.1:{port}/v1"
        assert wait_until(lambda: answers(url) or server.poll() is not None, patience=60, pause=0.1)
        yield url
        server.terminate()
        assert server.wait(10) == 0


@pytest.fixture
def client(base_url):
    with openai.OpenAI(base_url=base_url, api_key="none", max_retries=0, timeout=120) as client:
        yield client


def answers(url):
    try:
        with openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=5) as client:
            return bool(client.models.list().data)
    except openai.APIConnectionError:
        return False


def test_models(client):
    assert [model.id for model in client.models.list()] == ["smollm2", "use-multilingual"]
    assert client.models.retrieve("smollm2").owned_by == "huggingface"


def test_chat(client):
    answer = client.chat.completions.create(model="smollm2", messages=HELLO, max_tokens=8)
    assert answer.model == "smollm2"
    assert answer.choices[0].message.content
    assert 0 < answer.usage.completion_tokens <= 8
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_stream_comes_piece_by_piece_and_ends_with_its_usage(client):
    times, contents, last = [], [], None
    stream = client.chat.completions.create(
        model="smollm2",
        messages=HELLO,
        stream=True,
        max_completion_tokens=24,
        stream_options={"include_usage": True},
        extra_body=ENDLESS,
    )
    for last in stream:
        times.append(time.monotonic())
        contents += [choice.delta.content for choice in last.choices if choice.delta.content]
    assert len(contents) > 10
    assert len({round(moment, 3) for moment in times}) > 10  # not all at once at the end
    assert last.choices == []
    assert last.usage.completion_tokens == 24


def test_a_stream_without_include_usage_has_none(client):
    stream = client.chat.completions.create(model="smollm2", messages=HELLO, stream=True, max_tokens=2)
    assert [chunk.usage for chunk in stream if chunk.usage] == []


@pytest.mark.parametrize("stream", [False, True])
def test_the_tokens_of_all_choices_are_counted(client, stream):
    options = {"stream_options": {"include_usage": True}} if stream else {}
    answer = client.chat.completions.create(
        model="smollm2", messages=HELLO, n=3, max_tokens=4, seed=7, stream=stream, extra_body=ENDLESS, **options
    )
    chunks = list(answer) if stream else [answer]
    assert {choice.index for chunk in chunks for choice in chunk.choices} == {0, 1, 2}
    (counted,) = [chunk.usage for chunk in chunks if chunk.usage]
    assert counted.completion_tokens == 12
    assert counted.total_tokens == counted.prompt_tokens + 12


def test_a_client_that_leaves_frees_its_slot(client):
    def endless(_index):
        return client.chat.completions.create(
            model="smollm2", messages=HELLO, stream=True, max_tokens=1900, extra_body=ENDLESS
        )

    streams = [endless(index) for index in range(4)]  # as many as there are slots
    for stream in streams:
        next(iter(stream))
        stream.close()
    before = time.monotonic()
    client.chat.completions.create(model="smollm2", messages=HELLO, max_tokens=1)
    assert time.monotonic() - before < 20  # four times 1,900 tokens would take minutes


@pytest.mark.parametrize("options", [{}, {"encoding_format": "float"}])
def test_embeddings(client, options):
    answer = client.embeddings.create(
        model="use-multilingual", input=["good morning", "guten Morgen", "tax"], **options
    )
    assert [item.index for item in answer.data] == [0, 1, 2]
    first, second, third = (np.array(item.embedding) for item in answer.data)
    assert first.shape == (512,)
    assert math.isclose(first @ first, 1, rel_tol=1e-4)
    assert first @ second > 0.7 > first @ third
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 6


def test_shorter_embeddings_are_unit_vectors_too(client):
    vector = np.array(client.embeddings.create(model="use-multilingual", input="x", dimensions=64).data[0].embedding)
    assert vector.shape == (64,)
    assert math.isclose(vector @ vector, 1, rel_tol=1e-4)


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        ("chat/completions", {"messages": HELLO}, 400, "model"),
        ("chat/completions", {"model": "gpt-4", "messages": HELLO}, 404, "model"),
        ("chat/completions", {"model": "use-multilingual", "messages": HELLO}, 400, "model"),
        ("chat/completions", {"model": "smollm2", "messages": "hello"}, 400, None),
        ("chat/completions", {"model": "smollm2", "messages": HELLO, "n": 0}, 400, "n"),
        ("chat/completions", {"model": "smollm2", "messages": HELLO, "temperature": "hot"}, 400, None),
        ("chat/completions", {"model": "smollm2", "messages": HELLO, "temperature": "hot", "stream": True}, 400, None),
        (
            "chat/completions",
            {"model": "smollm2", "messages": [{"role": "user", "content": "x " * 9000}]},
            400,
            "messages",
        ),
        ("chat/completions", [], 400, None),
        ("embeddings", {"model": "smollm2", "input": "x"}, 400, "model"),
        ("embeddings", {"model": "use-multilingual"}, 400, "input"),
        ("embeddings", {"model": "use-multilingual", "input": [1, 2, 3]}, 400, "input"),
        ("embeddings", {"model": "use-multilingual", "input": "x", "dimensions": 513}, 400, "dimensions"),
        ("embeddings", {"model": "use-multilingual", "input": "x", "encoding_format": "hex"}, 400, "encoding_format"),
        ("audio/speech", {}, 404, None),
    ],
)
def test_a_bad_request_is_answered_in_the_shape_that_clients_know(client, path, body, status, param):
    with pytest.raises(openai.APIStatusError) as caught:
        client.post(f"/{path}", body=body, cast_to=object)
    assert caught.value.status_code == status
    error = caught.value.response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert error["param"] == param


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ([], "invalid_type"),
        ({}, "invalid_type"),
        ([[1, 2]], "unsupported_value"),
        (["x", ""], "empty_string"),
        ("", "empty_string"),
        (["x"] * 2049, "array_above_max_length"),
        ("x" * 1_000_001, "string_above_max_length"),
    ],
)
def test_senseless_inputs_are_refused(value, code):
    with pytest.raises(ApiError) as caught:
        embeddings.read_texts(value)
    assert caught.value.code == code


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_events_are_found_however_the_bytes_were_cut(size):
    choice = b'data: {"choices":[1]}\n\n'
    counts = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    counted_one = b"data: " + orjson.dumps({"choices": [], "usage": counts}) + b"\n\n"
    data = choice + 2 * counted_one + b"data: [DONE]\n\n"

    async def chunks():
        for start in range(0, len(data), size):
            yield data[start : start + size]

    async def collect():
        return [event async for event in usage.merge_usage_events(chunks())]

    first, total, done = asyncio.run(collect())
    assert (first, done) == (choice, b"data: [DONE]\n\n")
    counted = orjson.loads(total.removeprefix(b"data: "))["usage"]
    assert counted == {"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9}
