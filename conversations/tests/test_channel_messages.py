"""POST /api/v1/channels/{name}/messages: who it is, where it goes on, and what bots say when it does not."""

from concurrent.futures import ThreadPoolExecutor

import orjson
import pytest
from django.db import connection
from django.utils import timezone

from accounts.caller import Caller
from accounts.models import ChannelIdentity
from accounts.snapshots import redis_client
from accounts.tests.credentials import api_key
from conversations import channels, presence, sessions
from conversations.models import ChannelConfig, Conversation, Message
from conversations.tests.calls import post
from inference.models import Request
from inference.stub.answers import TEXT
from quotas.models import Plan, PlanLimit

pytestmark = pytest.mark.django_db(transaction=True)

PATH = "/api/v1/channels/telegram/messages"


@pytest.fixture
def telegram(models):
    def configure(**fields):
        ChannelConfig.objects.filter(name="telegram").update(**fields)
        channels.forget_channels()

    configure(default_model="instant", welcome_text="Welcome!")
    return configure


@pytest.fixture
def bring(telegram, olga):
    """A bot that has heard something from somebody."""
    key = api_key(olga, scopes=["act-as", "inference"])

    def send(content="Hello", person="telegram:7", path=PATH, **body):
        headers = {"X-On-Behalf-Of": person, **body.pop("headers", {})}
        return post(key, path, {"content": content, **body}, **headers)

    return send


def read(answer):
    return orjson.loads(answer[1])


def refusal(answer):
    error = read(answer)["error"]
    return answer[0].status_code, error["code"], error.get("text")


def test_a_person_is_made_welcomed_and_goes_on(bring, stub):
    first = bring(username="ada")
    talk = Conversation.objects.get()

    body = read(first)
    assert body["choices"][0]["message"]["content"] == TEXT
    assert (body["conversation_id"], body["welcome"]) == (str(talk.pk), "Welcome!")
    assert [body["user_message_id"], body["message_id"]] == [str(row.pk) for row in talk.messages.order_by("sequence")]
    assert (talk.channel, talk.user.email) == ("telegram", None)
    identity = ChannelIdentity.objects.get()
    assert (str(identity), identity.username) == ("telegram:7", "ada")
    assert redis_client().ttl(sessions.of_person("telegram", talk.user_id)) > 3500

    again = read(bring("And then?", username="countess"))
    assert (again["conversation_id"], "welcome" in again) == (str(talk.pk), False)
    assert [message["content"] for message in stub.requests[-1].body["messages"]] == ["Hello", TEXT, "And then?"]
    assert ChannelIdentity.objects.get().username == "countess"
    assert read(bring(person="telegram:8"))["welcome"] == "Welcome!"
    assert Conversation.objects.count() == 2


def test_a_stream_begins_with_the_ids_and_the_welcome(bring):
    answer, raw = bring(stream=True)

    first = orjson.loads(raw.decode().partition("data: ")[2].partition("\n")[0])
    assert answer["Content-Type"] == "text/event-stream"
    assert first == {
        "conversation_id": str(Conversation.objects.get().pk),
        "user_message_id": str(Message.objects.get(role="user").pk),
        "message_id": str(Message.objects.get(role="assistant").pk),
        "welcome": "Welcome!",
    }


def test_the_session_says_where_it_goes_on_else_the_newest_conversation(bring, alice):
    one = read(bring())["conversation_id"]
    two = read(bring(new=True))["conversation_id"]
    user = Conversation.objects.get(pk=one).user
    elsewhere = Conversation.objects.create(user=user, channel="web")

    assert one != two
    assert read(bring())["conversation_id"] == two
    redis_client().hset(sessions.of_person("telegram", user.pk), "conversation_id", str(elsewhere.pk))
    Conversation.objects.filter(pk=one).update(last_activity=timezone.now())
    assert read(bring())["conversation_id"] == one
    assert read(bring())["conversation_id"] == one
    Conversation.objects.filter(pk=one).update(is_active=False, archived_at=timezone.now())
    assert read(bring())["conversation_id"] == two
    Conversation.objects.filter(pk=two).update(deleted_at=timezone.now())
    redis_client().flushdb()
    last = read(bring())
    assert last["conversation_id"] not in {one, two}
    assert "welcome" not in last


def test_without_redis_the_database_says_where_it_goes_on(bring, redis_away):
    assert read(bring())["conversation_id"] == read(bring())["conversation_id"]


@pytest.mark.parametrize("new", [False, True])
@pytest.mark.parametrize("stream", [False, True])
def test_an_update_that_comes_ten_times_has_one_answer(bring, stub, new, stream):
    given = {"client_message_id": "update-7", "new": new, "stream": stream}
    answers = [bring(**given) for _ in range(5)]
    bring("Other things", new=True)
    answers += [bring(**given) for _ in range(5)]

    assert {answer.status_code for answer, _raw in answers} == {200}
    written = Message.objects.get(role="assistant", conversation=Conversation.objects.earliest("id"))
    assert all(str(written.pk).encode() in raw and b"Welcome!" in raw for _answer, raw in answers)
    assert (len(stub.requests), Conversation.objects.count(), Message.objects.count()) == (2, 2, 4)
    assert refusal(bring("Changed", client_message_id="update-7")) == (409, "client_message_id_reused", None)


def test_deliveries_at_once_begin_one_conversation(telegram, alice):
    def resume(_number):
        try:
            return sessions.resume(
                channel="telegram", user_id=alice.pk, session={}, client_message_id="update-7", begins_anew=True
            ).pk
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(resume, range(8)))) == 1
    assert Conversation.objects.count() == 1


def test_what_goes_wrong_is_said_in_the_channels_words(bring, telegram):
    texts = {
        "quota_text": "Used up.",
        "rate_limit_text": "Slowly!",
        "model_down_text": "Asleep.",
        "off_text": "Closed.",
    }
    telegram(**texts)
    assert refusal(bring(model="error-500", stream=True)) == (502, "upstream_error", "Asleep.")
    assert read(bring())["welcome"] == "Welcome!"
    assert refusal(bring(model="none")) == (404, "model_not_found", None)
    telegram(rate_limits={"requests": {"minute": 1}})
    bring()
    assert refusal(bring()) == (429, "rate_limit_exceeded", "Slowly!")
    telegram(rate_limits={})
    PlanLimit.objects.filter(plan=Plan.objects.get(is_default=True), unit="requests").update(limit=0)
    assert refusal(bring(person="telegram:9")) == (429, "insufficient_quota", "Used up.")
    telegram(is_active=False)
    assert refusal(bring()) == (403, "channel_off", "Closed.")
    telegram(off_text="")
    assert refusal(bring()) == (403, "channel_off", None)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"content": None}, (400, "required")),
        ({"content": " "}, (400, "blank")),
        ({"new": "yes"}, (400, "invalid_type")),
        ({"username": 7}, (400, "invalid_value")),
        ({"username": "x" * 256}, (400, "invalid_value")),
        ({"person": "discord:7"}, (400, "channel_mismatch")),
        ({"person": "line:7", "path": "/api/v1/channels/line/messages"}, (404, "channel_not_found")),
    ],
)
def test_bad_input_writes_nothing(bring, body, expected):
    assert refusal(bring(**body))[:2] == expected
    assert not Conversation.objects.exists()
    assert not Request.objects.exists()


def test_callers_bring_their_own_words(telegram, alice):
    path = "/api/v1/channels/web/messages"
    ChannelConfig.objects.filter(name="web").update(default_model="instant")
    channels.forget_channels()

    assert post(alice, path, {"content": "Hello", "username": "unused"})[0].status_code == 200

    assert (Conversation.objects.get().user, Conversation.objects.get().channel) == (alice, "web")
    assert presence.is_active(channel="web", user_id=alice.pk)
    assert not presence.is_active(channel="telegram", user_id=alice.pk)


def test_a_warm_turn_costs_no_statement_more_than_a_reply(telegram, alice, django_assert_num_queries):
    talk = Conversation.objects.create(user=alice, channel="telegram", last_sequence=4)
    session = {"conversation_id": str(talk.pk)}
    caller = Caller(user_id=alice.pk)

    with django_assert_num_queries(1):
        assert sessions.resume(channel="telegram", user_id=caller.user_id, session=session).pk == talk.pk
    with django_assert_num_queries(2):
        sessions.resume(channel="telegram", user_id=caller.user_id, session=session, client_message_id="x")


@pytest.mark.parametrize("stream", [False, True])
def test_an_idempotency_key_does_too_and_a_refusal_begins_nothing(bring, stub, stream):
    given = {"headers": {"Idempotency-Key": "k"}, "stream": stream}
    assert refusal(bring(model="none", **given)) == (404, "model_not_found", None)
    assert not Conversation.objects.exists()

    first, second = bring(new=True, **given), bring(new=True, **given)

    assert first[1] == second[1]
    assert b"Welcome!" in first[1]
    assert (len(stub.requests), Conversation.objects.count(), Message.objects.count()) == (1, 1, 2)
