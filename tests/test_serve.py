"""The parent of the web processes: it deals connections out, replaces the dead, refuses and ends cleanly."""

import asyncio
import os
import signal
import subprocess
import sys
import time

import aiohttp
import psutil
import pytest
from django.db import connection

from config.serve import STARTUP_FAILURE
from inference.models import Request
from tests.conftest import serve_models
from tests.web import ROOT, WebServer


def test_connections_that_come_at_once_are_dealt_out(transactional_db):
    async def connect(url: str) -> list[asyncio.StreamWriter]:
        port = int(url.rpartition(":")[2])
        return [(await asyncio.open_connection("127.0.0.1", port))[1] for _ in range(64)]

    async def count(web: WebServer) -> list[int]:
        writers = await connect(web.url)
        await asyncio.sleep(0.3)
        shares = [
            sum(found.status == "ESTABLISHED" for found in psutil.Process(pid).net_connections("tcp"))
            for pid in web.worker_pids()
        ]
        for writer in writers:
            writer.close()
        return shares

    with WebServer(workers=2) as web:
        shares = asyncio.run(count(web))

    assert sum(shares) == 64
    assert min(shares) >= 10


def test_a_process_that_dies_is_replaced_and_nobody_is_turned_away(transactional_db):
    with WebServer(workers=2) as web, web.client("no-key") as client:
        before = web.worker_pids()
        os.kill(before[0], signal.SIGKILL)
        for _ in range(20):
            assert client.get("/healthz", headers={"Connection": "close"}).status_code == 200
        deadline = time.monotonic() + 10
        while len(set(web.worker_pids()) - {before[0]}) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_streams_without_end_are_settled_when_the_server_must_stop(account, stub, transactional_db):
    serve_models(stub)

    async def run(web: WebServer) -> None:
        body = {"model": "hang-midstream", "messages": [{"role": "user", "content": "Hello"}], "stream": True}
        headers = {"Authorization": f"Bearer {account.key}"}
        async with aiohttp.ClientSession(web.url) as session:
            for _ in range(8):
                response = await session.post("/v1/chat/completions", json=body, headers=headers)
                await response.content.readline()
            web.process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(web.process.wait, 20)

    with WebServer(workers=2, GRACEFUL_SECONDS="1") as web:
        asyncio.run(run(web))
        assert web.process.returncode == 0

    requests = Request.objects.all()
    assert {(request.status, request.error_code) for request in requests} == {("error", "server_stopping")}
    assert account.usage()["llm.requests"] == (8, 0)
    assert account.usage()["llm.tokens"][1] == 0


def refused(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "config.serve", "--port", "0", "--workers", "2"],
        cwd=ROOT,
        env=os.environ | {"POSTGRES_DB": connection.settings_dict["NAME"]} | environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_it_does_not_serve_on_default_secrets(db):
    result = refused(SECRET_KEY="insecure-development-secret-that-production-refuses")
    assert result.returncode == STARTUP_FAILURE
    assert "Set SECRET_KEY" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.drill
def test_it_does_not_serve_with_a_senseless_encryption_key(db):
    result = refused(FIELD_ENCRYPTION_KEYS="abc")
    assert result.returncode == STARTUP_FAILURE
    assert "FIELD_ENCRYPTION_KEYS must hold" in result.stderr


@pytest.mark.drill
def test_it_does_not_serve_on_a_database_that_is_not_migrated():
    result = refused(POSTGRES_DB="postgres")
    assert result.returncode == STARTUP_FAILURE
    assert "manage.py migrate" in result.stderr
