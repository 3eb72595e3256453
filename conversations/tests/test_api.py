"""/api/v1/conversations and what was said in them."""

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts.tests.credentials import api_key
from conversations.channels import forget_channels
from conversations.models import ChannelConfig, Conversation, Message
from conversations.tests.factories import said

PATH = "/api/v1/conversations"


@pytest.fixture
def talk(alice):
    return Conversation.objects.create(user=alice, title="Weather")


def test_i_begin_a_conversation_with_nothing_but_my_name(api, alice):
    answer = api(alice).post(PATH)

    assert answer.status_code == 201
    body = answer.json()
    assert (body["title"], body["channel"], body["is_active"], body["metadata"]) == ("", "api", True, {})
    assert Conversation.objects.get().user_id == alice.pk
    assert api(alice).get(f"{PATH}/{body['id']}").json() == body


def test_i_change_and_delete_my_own(api, alice, talk):
    path = f"{PATH}/{talk.pk}"
    change = {"title": "Climate", "model_override": "smollm2", "is_active": False, "metadata": {"mood": ["calm"]}}

    assert api(alice).patch(path, change).status_code == 200
    talk.refresh_from_db()
    assert (talk.title, talk.model_override, talk.is_active, talk.metadata) == tuple(change.values())
    assert talk.archived_at is not None
    assert api(alice).delete(path).status_code == 204
    assert api(alice).get(path).status_code == 404


def test_channel_owner_and_times_are_not_the_callers_to_set(api, alice, bob, talk):
    before = Conversation.objects.values().get()

    api(alice).put(
        f"{PATH}/{talk.pk}",
        {
            "channel": "discord",
            "user": str(bob.pk),
            "started_at": "2001-01-01T00:00Z",
            "last_activity": None,
            "id": "x",
        },
    )

    after = Conversation.objects.values().get()
    for name in ("id", "user_id", "channel", "started_at", "last_activity"):
        assert after[name] == before[name]


def test_somebody_elses_conversation_does_not_exist_for_me(api, bob, olga, talk):
    said(talk, "secret")
    path = f"{PATH}/{talk.pk}"
    for who in (bob, olga):
        answers = [
            *(api(who).get(path), api(who).get(f"{path}/messages"), api(who).put(path, {"title": "x"})),
            *(api(who).patch(path, {"title": "x"}), api(who).delete(path)),
        ]
        assert {answer.status_code for answer in answers} == {404}
        assert api(who).get(PATH).json()["results"] == []
    talk.refresh_from_db()
    assert talk.title == "Weather"


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"title": "x" * 201}, "title"),
        ({"title": None}, "title"),
        ({"model_override": ["m"]}, "model_override"),
        ({"is_active": "perhaps"}, "is_active"),
        ({"metadata": None}, "metadata"),
    ],
)
def test_a_senseless_change_is_refused(api, alice, talk, change, param):
    answer = api(alice).patch(f"{PATH}/{talk.pk}", change)

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_the_list_can_be_narrowed(api, alice, talk):
    Conversation.objects.create(user=alice, title="Old", is_active=False, archived_at=talk.started_at)
    chat = Conversation.objects.create(user=alice, title="Chat", channel="discord", tags=["fun", "work"])
    api(alice).post(f"{PATH}/{chat.pk}/pin")
    Conversation.objects.filter(pk=talk.pk).update(last_activity=timezone.now() - timedelta(days=3))
    yesterday = (timezone.now() - timedelta(days=1)).isoformat()

    def found(**query):
        return [row["title"] for row in api(alice).get(PATH, query).json()["results"]]

    assert found() == ["Chat", "Old", "Weather"]
    assert found(is_active="false") == ["Old"]
    assert found(archived="true") == ["Old"]
    assert found(archived="false") == ["Chat", "Weather"]
    assert found(channel="discord") == found(pinned="true") == found(tag="work") == ["Chat"]
    assert found(pinned="false") == ["Old", "Weather"]
    assert found(last_activity_after=yesterday) == ["Chat", "Old"]
    assert found(last_activity_before=yesterday) == ["Weather"]
    assert found(tag="wor") == found(deleted="true") == []


def test_what_is_deleted_can_be_restored(api, alice, bob, talk):
    path = f"{PATH}/{talk.pk}"
    said(talk, "Hello")
    assert api(alice).post(f"{path}/restore").status_code == 404

    api(alice).delete(path)
    gone = [
        *(api(alice).get(path), api(alice).get(f"{path}/messages"), api(alice).post(f"{path}/pin")),
        *(api(alice).patch(path, {"title": "x"}), api(alice).delete(path), api(bob).post(f"{path}/restore")),
        api(alice).post(f"{path}/messages", {"content": "x"}),
    ]
    assert {answer.status_code for answer in gone} == {404}
    assert said(talk, "Too late") is None
    assert api(alice).get(PATH).json()["results"] == []
    assert [row["id"] for row in api(alice).get(PATH, {"deleted": "true"}).json()["results"]] == [str(talk.pk)]

    assert api(alice).post(f"{path}/restore").json()["deleted_at"] is None
    assert [row["content"] for row in api(alice).get(f"{path}/messages").json()["results"]] == ["Hello"]


def test_what_is_archived_or_pinned_stays_so_until_it_is_not(api, alice, talk):
    def put(what):
        return api(alice).post(f"{PATH}/{talk.pk}/{what}").json()

    first = put("archive")
    assert (first["is_active"], put("archive")["archived_at"]) == (False, first["archived_at"])
    assert (put("unarchive")["is_active"], put("unarchive")["archived_at"]) == (True, None)
    assert put("pin")["pinned_at"] == put("pin")["pinned_at"] is not None
    assert put("unpin")["pinned_at"] is None
    put("archive")
    said(talk, "Are you there?")
    talk.refresh_from_db()
    assert (talk.is_active, talk.archived_at) == (True, None)


def test_a_conversation_begins_on_a_channel_that_there_is(api, alice):
    assert api(alice).post(PATH, {"channel": "web", "tags": ["a", "a"]}).json()["channel"] == "web"
    answer = api(alice).post(PATH, {"channel": "nowhere"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unknown_channel")
    ChannelConfig.objects.filter(name="web").update(is_active=False)
    forget_channels()
    answer = api(alice).post(PATH, {"channel": "web"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "channel_off")
    assert Conversation.objects.get().tags == ["a"]


def test_who_acts_for_somebody_on_a_channel_begins_there(api, olga, alice):
    bot = api_key(olga, scopes=["act-as", "conversations"])
    answer = api(bot).post(PATH, {"channel": "web"}, headers={"X-On-Behalf-Of": "discord:7"})

    assert answer.json()["channel"] == "discord"
    assert Conversation.objects.get().user_id != olga.pk


def test_the_database_knows_roles_and_channels(talk):
    with pytest.raises(IntegrityError, match="message_role_known"), transaction.atomic():
        Message.objects.create(conversation=talk, role="oracle")
    with pytest.raises(IntegrityError, match="conversation_channel_given"), transaction.atomic():
        Conversation.objects.update(channel="")


def test_rows_name_themselves(talk):
    assert str(talk) == "Weather"
    assert str(Conversation(pk=talk.pk)) == f"Conversation {talk.pk}"
    assert str(said(talk, "Hello")) == "user: Hello"
