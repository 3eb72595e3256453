"""GET /api/v1/conversations/events: what a listener is told, and how it ends."""

import asyncio

import orjson
import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import transaction
from django.test import AsyncClient

from accounts.models import Session
from accounts.sessions import revoke_session
from accounts.snapshots import redis_client
from accounts.tests.credentials import access_token
from conversations import lifecycle, live, live_views, threads
from conversations.models import Conversation, Message
from conversations.tests.calls import LOADED
from conversations.tests.factories import said

pytestmark = pytest.mark.django_db(transaction=True)

PATH = "/api/v1/conversations/events"


def listen(user, *, do=lambda: None, most=20):
    """What comes, from the beginning on, while `do` is done: until `most` pieces have come or the stream ends."""
    token = access_token(user)
    client = AsyncClient()
    client.handler = LOADED

    async def run():
        answer = await client.get(PATH, headers={"Authorization": f"Bearer {token}"})
        if not answer.streaming:
            return [answer]
        stream, found = aiter(answer.streaming_content), []
        async with asyncio.timeout(10):
            found.append(await anext(stream))
            await sync_to_async(do)()
            while len(found) < most and (piece := await anext(stream, None)) is not None:
                found.append(piece)
        await stream.aclose()
        return found

    return async_to_sync(run)()


def read(piece):
    """The name of an event, and its data."""
    name, data = piece.decode().strip().split("\n")
    return name.removeprefix("event: "), orjson.loads(data.removeprefix("data: "))


def test_a_listener_is_told_what_is_committed_in_its_own_conversations(alice, bob):
    mine, others = (Conversation.objects.create(user=user) for user in (alice, bob))

    def happen():
        said(others, "Not for you")
        with transaction.atomic():
            said(mine, "Undone")
            transaction.set_rollback(True)
        message = said(mine, "Hello")
        threads.edit(message=message, content="Good day")
        lifecycle.pin(conversation=mine, is_pinned=True)
        lifecycle.delete(conversation=mine)
        lifecycle.restore(conversation=mine)

    beginning, *told = listen(alice, do=happen, most=6)

    of_talk = {"conversation_id": str(mine.pk)}
    first, second = Message.objects.filter(conversation=mine).order_by("sequence")
    assert beginning.startswith(b"retry: 2000\n")
    assert [read(piece) for piece in told] == [
        ("message.created", of_talk | {"id": str(first.pk), "role": "user", "sequence": 1}),
        ("message.created", of_talk | {"id": str(second.pk), "role": "user", "sequence": 2}),
        ("conversation.updated", of_talk),
        ("conversation.deleted", of_talk),
        ("conversation.created", of_talk),
    ]
    assert live.listeners(alice.pk) == 0


def test_a_silent_stream_shows_that_it_is_alive(alice, monkeypatch):
    monkeypatch.setattr(live_views, "HEARTBEAT_SECONDS", 0.02)

    assert listen(alice, most=3)[1:] == [live_views.HEARTBEAT] * 2


def test_it_ends_when_the_credential_does(alice, monkeypatch):
    monkeypatch.setattr(live_views, "HEARTBEAT_SECONDS", 0.02)

    def end():
        session = Session.objects.get(user=alice)
        revoke_session(session_id=session.pk, user_id=alice.pk, by=alice)

    last = listen(alice, do=end, most=1000)[-1]

    assert read(last)[0] == "error"
    assert read(last)[1]["error"]["code"] == "session_ended"


def test_a_lost_redis_ends_it_with_an_error_and_one_may_come_again(alice):
    def lose():
        for connection in redis_client().client_list(_type="pubsub"):
            redis_client().client_kill_filter(_id=connection["id"])

    name, data = read(listen(alice, do=lose)[-1])

    assert (name, data["error"]["code"]) == ("error", "service_unavailable")
    assert listen(alice, most=1) == [live_views.BEGINNING]


def test_without_redis_it_does_not_begin(alice, redis_away):
    (answer,) = listen(alice)
    assert answer.status_code == 503


def test_nobody_listens_with_too_many_streams(alice, monkeypatch):
    monkeypatch.setattr(live_views, "MOST_STREAMS", 0)
    (answer,) = listen(alice)
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "rate_limit_exceeded")


def test_it_ends_at_once_when_the_server_stops(alice):
    assert listen(alice, do=live_views.end_all) == [live_views.BEGINNING]
