"""Calls to asynchronous views."""

from asgiref.sync import async_to_sync
from django.test import AsyncClient
from django.test.client import AsyncClientHandler

from accounts.tests.credentials import access_token
from inference import background, upstream

LOADED = AsyncClientHandler(enforce_csrf_checks=True)


def post(who, path, body, **headers):
    """As over HTTP, by a user or with a key: the answer, and all of its bytes."""
    client = AsyncClient()
    client.handler = LOADED

    async def run():
        try:
            headers_ = {"Authorization": f"Bearer {credential}", **headers}
            answer = await client.post(path, body, content_type="application/json", headers=headers_)
            if answer.streaming:
                return answer, b"".join([part async for part in answer.streaming_content])
            return answer, answer.content
        finally:
            await background.drain()
            await upstream.close_session()

    credential = who if isinstance(who, str) else access_token(who)
    return async_to_sync(run)()
