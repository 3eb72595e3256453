"""GET /api/v1/users/me/export: all that a person has, whole, valid and in pieces."""

import asyncio
import json
import tracemalloc
from datetime import timedelta

import pytest
from django.core.handlers.asgi import ASGIRequest
from django.db import connection
from django.test import AsyncRequestFactory
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import audit
from accounts.belongings import all_belongings
from accounts.caller import Caller
from accounts.data_views import export_response
from accounts.exporting import exported
from accounts.merging import merge_users
from accounts.models import ApiKey, AuditEvent, ChannelIdentity, Session, TotpDevice, UserPreference
from accounts.tests.credentials import api_key
from accounts.tests.factories import UserFactory
from conversations.models import Conversation, Message
from inference.models import Request
from prompts.models import PromptTemplate, PromptVersion, SavedPrompt
from quotas import services as quotas
from quotas.meters import Meter

PATH = "/api/v1/users/me/export"
ODD = 'quote " backslash \\ newline \n tab \t line \u2028 emoji 😀 null-like \u0001 umlaut ü </script>'


def export(user):
    return json.loads(b"".join(exported(user.pk)))


def test_everything_is_in_it(api, alice, olga):
    alice.metadata = {"huge": 10**30}
    alice.full_name = "Alice"
    alice.save()
    raw = api_key(alice, name="Laptop")
    tomorrow = timezone.now() + timedelta(days=1)
    Session.objects.create(user=alice, refresh_jti="the-refresh-id", expires_at=tomorrow, device="Phone")
    ChannelIdentity.objects.create(user=alice, channel_type="slack", channel_user_id="U1", username="Ali")
    UserPreference.objects.create(user=alice, theme="dark")
    TotpDevice.objects.create(user=alice, secret="deadbeef")
    quotas.reserve(user_id=alice.pk, amounts={Meter("llm", "requests"): 1}, seconds=60)
    Request.objects.create(user=alice, request_type="llm", model="m", request_data={"q": "?"}, response_data={"a": "!"})
    SavedPrompt.objects.create(user=alice, title="Title", content="Content")
    PromptVersion.objects.create(
        template=PromptTemplate.objects.create(user=alice, name="t"), number=1, content="Hello {{ who }}!"
    )
    talk = Conversation.objects.create(user=alice, title="Talk")
    Message.objects.create(conversation=talk, role="user", content="Hello")

    answer = api(alice).get(PATH)
    body = b"".join(answer.streaming_content).decode()
    data = json.loads(body)

    assert answer["Content-Type"] == "application/json"
    assert answer["Content-Disposition"].startswith('attachment; filename="mainstay-export-')
    assert set(data) == {belonging.section for belonging in all_belongings() if belonging.section} | {"exported_at"}
    assert (data["user"]["full_name"], data["user"]["metadata"]) == ("Alice", {"huge": 10**30})
    assert (data["preferences"]["theme"], data["channels"][0]["username"]) == ("dark", "Ali")
    assert (data["api_keys"][0]["name"], data["sessions"][0]["device"]) == ("Laptop", "Phone")
    assert data["subscriptions"][0]["plan"] == "free"
    assert data["quotas"]
    assert data["reservations"][0]["amounts"] == {"llm.requests": 1}
    assert (data["requests"][0]["request_data"], data["requests"][0]["response_data"]) == ({"q": "?"}, {"a": "!"})
    assert data["saved_prompts"][0]["content"] == "Content"
    assert data["prompt_templates"][0]["versions"][0]["content"] == "Hello {{ who }}!"
    assert data["conversations"][0]["messages"][0]["content"] == "Hello"
    assert [event["action"] for event in data["audit_events"]] == ["api_key.created", "user.exported"]
    for secret in (raw, ApiKey.objects.get().key_hash, "the-refresh-id", "deadbeef", alice.password):
        assert secret not in body


def test_nothing_of_others_is_in_it(api, alice, bob, olga):
    SavedPrompt.objects.create(user=bob, title="Bob's", content="Bob's")
    talk = Conversation.objects.create(user=bob)
    Message.objects.create(conversation=talk, role="user", content="Bob's")
    audit.record("user.updated", by=Caller(user_id=olga.pk, email=olga.email, ip="10.0.0.9"), target=alice)

    data = export(alice)

    assert "Bob" not in json.dumps(data)
    (event,) = data["audit_events"]
    assert (event["actor_id"], event["ip"]) == (str(olga.pk), None)
    assert olga.email not in json.dumps(data)


def test_an_alias_is_exported_with_the_user(alice, bob, olga):
    audit.record("something.done", by=bob, target=bob, ip="10.0.0.3")
    merge_users(source_id=bob.pk, target_id=alice.pk, by=olga)

    events = export(alice)["audit_events"]

    assert [(event["action"], event["ip"]) for event in events] == [
        ("something.done", "10.0.0.3"),
        *(("user.merged", None),) * 2,
    ]


@pytest.mark.parametrize("count", [0, 1, 2, 499, 500, 501, 1203])
def test_every_row_is_there_once_whatever_the_pages_are(alice, count):
    SavedPrompt.objects.bulk_create(
        SavedPrompt(user=alice, title=f"{ODD} {number}", content=ODD) for number in range(count)
    )

    data = export(alice)

    assert [prompt["title"] for prompt in data["saved_prompts"]] == [f"{ODD} {number}" for number in range(count)]


def test_messages_are_in_their_conversations_whatever_the_pages_are(alice):
    talks = [Conversation.objects.create(user=alice, title=str(number)) for number in range(7)]
    counts = [0, 1, 199, 200, 201, 450, 0]
    for talk, count in zip(talks, counts, strict=True):
        Message.objects.bulk_create(
            Message(conversation=talk, role="user", content=f"{talk.title}:{number} {ODD}") for number in range(count)
        )

    data = export(alice)

    assert [len(talk["messages"]) for talk in data["conversations"]] == counts
    for talk in data["conversations"]:
        assert [message["content"] for message in talk["messages"]] == [
            f"{talk['title']}:{number} {ODD}" for number in range(len(talk["messages"]))
        ]


def filled(user, count):
    body = {"text": "x" * 4000}
    Request.objects.bulk_create(
        (
            Request(user=user, request_type="llm", model="m", request_data=body, response_data=body)
            for _ in range(count)
        ),
        batch_size=500,
    )
    talk = Conversation.objects.create(user=user)
    Message.objects.bulk_create(
        (Message(conversation=talk, role="user", content="y" * 4000) for _ in range(count)), batch_size=500
    )


def test_memory_stays_flat_and_pieces_come_before_the_end(alice):
    filled(alice, 2000)
    sizes, statements_at_first = [], None
    tracemalloc.start()
    try:
        with CaptureQueriesContext(connection) as queries:
            for piece in exported(alice.pk):
                statements_at_first = statements_at_first or len(queries)
                sizes.append(len(piece))
                queries.connection.queries_log.clear()
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert sum(sizes) > 24_000_000
    assert peak < 8_000_000
    assert max(sizes) < 200_000
    assert statements_at_first < 20


def test_an_export_is_audited(api, alice):
    api(alice).get(PATH, REMOTE_ADDR="10.1.2.3")

    event = AuditEvent.objects.get(action="user.exported")
    assert (event.actor_id, event.target_id, event.ip) == (alice.pk, str(alice.pk), "10.1.2.3")


@pytest.mark.django_db(transaction=True)
def test_on_the_event_loop_no_connection_is_held_between_two_pieces():
    user = UserFactory()
    filled(user, 300)
    request = AsyncRequestFactory().get(PATH)
    assert isinstance(request, ASGIRequest)
    response = export_response(request, user_id=user.pk, by=user)
    connection.close()

    async def take():
        pieces = []
        async for piece in response:
            pieces.append(piece)
            assert connection.connection is None
        return pieces

    pieces = asyncio.run(take())

    assert len(pieces) > 20
    assert len(json.loads(b"".join(pieces))["requests"]) == 300
