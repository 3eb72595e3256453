"""/api/v1/conversations and what was said in them."""

import pytest
from django.db import IntegrityError, transaction

from conversations import services
from conversations.models import Conversation, Message

PATH = "/api/v1/conversations"


@pytest.fixture
def talk(alice):
    return Conversation.objects.create(user=alice, title="Weather")


def say(talk, role, content):
    return services.append_message(conversation_id=talk.pk, role=Message.Role(role), content=content)


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
    assert api(alice).delete(path).status_code == 204
    assert not Conversation.objects.exists()


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
    say(talk, "user", "secret")
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
    Conversation.objects.create(user=alice, title="Old", is_active=False)
    Conversation.objects.create(user=alice, title="Chat", channel="discord")

    def found(**query):
        return [row["title"] for row in api(alice).get(PATH, query).json()["results"]]

    assert found() == ["Chat", "Old", "Weather"]
    assert found(is_active="false") == ["Old"]
    assert found(channel="discord") == ["Chat"]


def test_messages_come_newest_first_in_pages(api, alice, bob, talk):
    other = Conversation.objects.create(user=alice)
    say(other, "user", "elsewhere")
    for number in range(5):
        say(talk, "user" if number % 2 == 0 else "assistant", f"{number}")

    first = api(alice).get(f"{PATH}/{talk.pk}/messages", {"limit": 3}).json()
    rest = api(alice).get(first["next"]).json()

    said = [(message["role"], message["content"]) for message in first["results"] + rest["results"]]
    assert said == [("user", "4"), ("assistant", "3"), ("user", "2"), ("assistant", "1"), ("user", "0")]


def test_messages_cannot_be_written_here(api, alice, talk):
    assert api(alice).post(f"{PATH}/{talk.pk}/messages", {"role": "user", "content": "x"}).status_code == 405


def test_a_message_marks_its_conversation_as_active_and_holds_no_nul(talk):
    before = talk.last_activity

    message = say(talk, "user", "a\0b")

    talk.refresh_from_db()
    assert talk.last_activity > before
    message.refresh_from_db()
    assert message.content == "a\N{REPLACEMENT CHARACTER}b"


def test_the_database_knows_roles_and_channels(talk):
    with pytest.raises(IntegrityError, match="message_role_known"), transaction.atomic():
        Message.objects.create(conversation=talk, role="oracle")
    with pytest.raises(IntegrityError, match="conversation_channel_given"), transaction.atomic():
        Conversation.objects.update(channel="")


def test_rows_name_themselves(talk):
    assert str(talk) == "Weather"
    assert str(Conversation(pk=talk.pk)) == f"Conversation {talk.pk}"
    assert str(say(talk, "user", "Hello")) == "user: Hello"
