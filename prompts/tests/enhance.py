"""What tests of improved prompts share: asking over HTTP, and a history without asking."""

import asyncio
from dataclasses import replace

from asgiref.sync import async_to_sync, sync_to_async
from django.test import AsyncClient
from django.test.client import AsyncClientHandler

from accounts.tests.credentials import access_token
from inference import upstream
from inference.models import Request
from prompts.enhance import history
from prompts.enhance.drafting import draft, intent_as_given
from prompts.enhance.wishes import Wish

PATH = "/api/v1/prompts/enhance"
LOADED = AsyncClientHandler(enforce_csrf_checks=True)


def ask(user, body, *, parts=None, **headers):
    """The answer and its body, or after `parts` parts of a stream the caller leaves.

    The client of model servers belongs to the event loop, and is closed with it.
    """
    client, headers = AsyncClient(), {"Authorization": f"Bearer {access_token(user)}", **headers}
    client.handler = LOADED

    async def asked():
        try:
            answer = await client.post(PATH, body, content_type="application/json", headers=headers)
            if not answer.streaming:
                return answer, answer.content
            taken = []
            async for part in answer.streaming_content:
                taken.append(part)
                if len(taken) == parts:
                    break
            answer.close()
            return answer, b"".join(taken)
        finally:
            while await sync_to_async(Request.objects.filter(status="running").exists)():  # noqa: ASYNC110 - a thread settles
                await asyncio.sleep(0.01)
            await upstream.close_session()

    return async_to_sync(asked)()


def improved(
    user, *, intent="debugging", techniques=("role", "chain_of_thought"), prompt="Why does it crash?", is_named=False
):
    """A row of the history, as `POST prompts/enhance` writes it; unless `is_named`, as if these had been drawn."""
    made = draft(Wish(prompt=prompt, techniques=tuple(techniques), parameters={}), intent_as_given(intent))
    if not is_named:
        made = replace(made, wish=replace(made.wish, techniques=()))
    return history.record(user_id=user.pk, draft=made, enhanced=made.text)
