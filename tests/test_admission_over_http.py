"""64 callers at once against a limit of 50, over HTTP: exactly 50 are admitted, also when processes are killed."""

import asyncio
import time
from collections import Counter
from datetime import timedelta

import aiohttp
import pytest
from django.utils import timezone

from inference.models import Request
from inference.tasks import sweep_reservations
from quotas.models import Reservation
from tests.conftest import serve_models
from tests.web import WebServer

THREADS, LIMIT = 64, 50
HELLO = [{"role": "user", "content": "Hello"}]


async def call(session: aiohttp.ClientSession, key: str, model: str) -> str:
    body = {"model": model, "messages": HELLO}
    try:
        async with session.post(
            "/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {key}"}
        ) as response:
            return "admitted" if response.status == 200 else (await response.json())["error"]["code"]
    except aiohttp.ClientError:
        return "lost"


async def all_at_once(url: str, key: str, model: str, meanwhile=None) -> Counter:
    async with aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(total=30)) as session:
        calls = [asyncio.create_task(call(session, key, model)) for _ in range(THREADS)]
        if meanwhile:
            await meanwhile()
        return Counter(await asyncio.gather(*calls))


def test_exactly_the_limit_is_admitted(web, make_account):
    account = make_account(requests=LIMIT)

    results = asyncio.run(all_at_once(web.url, account.key, "instant"))

    assert results == {"admitted": LIMIT, "insufficient_quota": THREADS - LIMIT}
    assert account.usage()["llm.requests"] == (LIMIT, 0)


@pytest.mark.drill
def test_exactly_the_limit_is_admitted_while_workers_are_killed(make_account, stub, transactional_db):
    account = make_account(requests=LIMIT)
    serve_models(stub)

    async def kill(web: WebServer) -> None:
        deadline = time.monotonic() + 10
        while await asyncio.to_thread(Request.objects.count) < LIMIT and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        web.kill_workers()

    with WebServer(workers=2) as web:
        lost = asyncio.run(all_at_once(web.url, account.key, "slow-300", lambda: kill(web)))
        web.wait_until_up()
        refused = asyncio.run(all_at_once(web.url, account.key, "instant"))

    assert lost["lost"] > 0
    assert lost["insufficient_quota"] + lost["lost"] + lost["admitted"] == THREADS
    assert Request.objects.count() == LIMIT
    assert refused == {"insufficient_quota": THREADS}
    used, held = account.usage()["llm.requests"]
    assert used + held == LIMIT

    Reservation.objects.filter(status="held").update(expires_at=timezone.now() - timedelta(seconds=1))
    sweep_reservations()

    assert account.usage()["llm.requests"] == (LIMIT, 0)
    assert account.usage()["llm.tokens"][1] == 0
    assert not Request.objects.filter(status="running").exists()
    assert (
        Request.objects.filter(error_code="abandoned").count()
        == lost["lost"] - (THREADS - LIMIT) + lost["insufficient_quota"]
    )
