"""Callers who leave: upstream is closed, what was delivered is charged, and nothing hangs, leaks or stays held."""

import asyncio
import time
from collections import Counter

import aiohttp
import pytest
from django.db import connection

from inference import stub as stubs
from inference.models import Request
from quotas.models import Reservation
from tests.conftest import serve_models
from tests.web import WebServer

HELLO = [{"role": "user", "content": "Hello"}]
CHUNKS = stubs.OUTPUT_TOKENS


async def stream_until(session: aiohttp.ClientSession, key: str, chunks: int | None, model: str = "paced-5") -> str:
    """Read `chunks` events of a stream (None: all), then close the connection at once."""
    body = {"model": model, "messages": HELLO, "stream": True}
    text, seen = "", 0
    async with session.post("/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {key}"}) as response:
        assert response.status == 200, await response.text()
        async for line in response.content:
            seen += line.startswith(b"data: ")
            text += line.decode()
            if seen == chunks:
                response.close()
                return "left"
    assert "[DONE]" in text
    return "stayed"


def wait_until_settled(seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while Request.objects.filter(status="running").exists():
        assert time.monotonic() < deadline, Counter(Request.objects.values_list("status", flat=True))
        time.sleep(0.02)


@pytest.mark.drill
def test_500_streams_whose_callers_leave_anywhere_through_a_pool_of_4_connections(account, stub, transactional_db):
    serve_models(stub)
    # After the first, in the middle, with the last word, at the end of the choice, with [DONE], and not at all.
    places = (1, CHUNKS // 2, CHUNKS, CHUNKS + 1, CHUNKS + 2, None)

    async def run(url: str) -> Counter:
        timeout = aiohttp.ClientTimeout(total=60)
        async with aiohttp.ClientSession(url, timeout=timeout, connector=aiohttp.TCPConnector(limit=100)) as session:
            return Counter(
                await asyncio.gather(*[stream_until(session, account.key, places[n % len(places)]) for n in range(500)])
            )

    with WebServer(DATABASE_POOL_SIZE="4", DATABASE_MAX_OVERFLOW="0", APPLICATION_NAME="pool-of-4") as web:
        results = asyncio.run(run(web.url))
        wait_until_settled()
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
                " AND application_name = 'pool-of-4'"
            )
            connections = cursor.fetchone()[0]
        with web.client(account.key) as client:
            assert client.get("/api/v1/requests").status_code == 200

    assert results.total() == 500
    requests = Request.objects.all()
    assert requests.count() == 500
    statuses = Counter(requests.values_list("status", flat=True))
    assert set(statuses) == {"success", "cancelled"}
    assert statuses["cancelled"] >= 160
    assert statuses["success"] >= 160
    assert not Reservation.objects.filter(status="held").exists()
    charged = sum(request.input_tokens + request.output_tokens for request in requests)
    assert account.usage() == {"llm.requests": (500, 0), "llm.tokens": (charged, 0), "embedding.tokens": (0, 0)}
    assert connections <= 4


def test_upstream_is_closed_within_a_second_and_the_delivered_part_is_charged(web, account, stub):
    async def run() -> float:
        async with aiohttp.ClientSession(web.url) as session:
            await stream_until(session, account.key, 10, model="paced-20")
            return time.monotonic()

    left = asyncio.run(run())
    (closed,) = stub.wait_closed_early()
    wait_until_settled()

    assert closed.at - left < 1
    request = Request.objects.get()
    assert (request.status, request.error_code, request.usage) == ("cancelled", "client_disconnected", "estimated")
    delivered = request.response_data["choices"][0]["message"]["content"]
    assert stubs.TEXT.startswith(delivered)
    assert 10 <= len(delivered.split()) <= 13
    assert 0 < request.output_tokens <= 20
    assert account.usage()["llm.tokens"] == (request.input_tokens + request.output_tokens, 0)
    assert request.reservation.status == "confirmed"


@pytest.mark.parametrize(("model", "stream"), [("hang", True), ("hang", False), ("slow-300", False)])
def test_a_caller_who_leaves_before_the_first_byte(web, account, stub, model, stream):
    body = {"model": model, "messages": HELLO, "stream": stream}

    async def run() -> None:
        async with aiohttp.ClientSession(web.url) as session:
            with pytest.raises(TimeoutError):
                await session.post(
                    "/v1/chat/completions",
                    json=body,
                    headers={"Authorization": f"Bearer {account.key}"},
                    timeout=aiohttp.ClientTimeout(total=0.15),
                )

    asyncio.run(run())
    assert stub.wait_closed_early()
    wait_until_settled()

    request = Request.objects.get()
    assert (request.status, request.error_code) == ("cancelled", "client_disconnected")
    assert request.output_tokens == 0
    assert account.usage()["llm.requests"] == (1, 0)
    assert account.usage()["llm.tokens"] == (request.input_tokens, 0)


def test_a_server_that_is_stopped_settles_what_it_streams(account, stub, transactional_db):
    serve_models(stub)

    async def run(web: WebServer) -> None:
        async with aiohttp.ClientSession(web.url) as session:
            streams = [
                asyncio.create_task(stream_until(session, account.key, None, model="paced-20")) for _ in range(20)
            ]
            await asyncio.sleep(0.3)
            await asyncio.to_thread(web.stop)
            await asyncio.gather(*streams, return_exceptions=True)

    with WebServer() as web:
        asyncio.run(run(web))

    assert Request.objects.count() == 20
    assert not Request.objects.filter(status="running").exists()
    assert account.usage()["llm.requests"] == (20, 0)
