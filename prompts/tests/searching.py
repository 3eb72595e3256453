"""What tests of searches share: texts with meanings, and somebody who asks over HTTP."""

import hashlib
from urllib.parse import urlencode

import numpy as np
from asgiref.sync import async_to_sync
from django.test import AsyncClient
from django.test.client import AsyncClientHandler

from accounts.tests.credentials import access_token
from inference import upstream
from prompts.models import SavedPrompt, SearchDocument
from prompts.models.intents import DIMENSIONS
from prompts.search import vectors

PATH, SUGGESTIONS = "/api/v1/prompts/search", "/api/v1/prompts/suggestions"
LOADED = AsyncClientHandler(enforce_csrf_checks=True)
# Words that mean the same have the same axis.
MEANINGS = [{"refund", "money", "reimburse"}, {"poem", "verse", "rhyme"}, {"bug", "crash", "traceback"}]


def vector_of(item, dimensions=8, model=""):
    """A direction near the axes of the words' meanings; another model has other axes."""
    noise = np.random.default_rng(int(hashlib.sha256(item.encode()).hexdigest()[:8], 16))
    direction = noise.normal(size=DIMENSIONS) * 0.2 / DIMENSIONS**0.5
    for axis, words in enumerate(MEANINGS):
        direction[axis + 100 * (model == "other")] += len(words & set(item.lower().split()))
    return [float(number) for number in direction]


def saved(user, title, content="Text", **fields):
    return SavedPrompt.objects.create(user=user, title=title, content=content, **fields)


def document(prompt):
    return SearchDocument.objects.filter(pk=prompt.pk).first()


def embed_all():
    vectors.tend()


def search(user, path=PATH, body=None, headers=None, **query):
    """As over HTTP; the client of model servers belongs to the event loop, and is closed with it."""
    client, headers = AsyncClient(), {"Authorization": f"Bearer {access_token(user)}"} | (headers or {})
    client.handler = LOADED
    address = f"{path}?{urlencode(query)}" if query else path

    async def asked():
        try:
            if body is None:
                return await client.get(address, headers=headers)
            return await client.post(path, body, content_type="application/json", headers=headers)
        finally:
            await upstream.close_session()

    return async_to_sync(asked)()


def titles(answer):
    assert answer.status_code == 200, answer.content
    return [row["title"] for row in answer.json()["results"]]
