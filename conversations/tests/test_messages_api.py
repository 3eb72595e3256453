"""/api/v1/conversations/{id}/messages: what is said, in which order, on which branch."""

import threading

import pytest
from django.db import IntegrityError, connection, transaction

from accounts.ids import uuid7
from conversations import threads
from conversations.models import Conversation, Message
from conversations.tests.factories import a_conversation, said


@pytest.fixture
def talk(alice):
    """Of four messages, user and assistant in turn."""
    return a_conversation(alice, "1", "2", "3", "4")


@pytest.fixture
def mine(api, alice, talk):
    """Calls alice's client at the conversation's messages."""

    class Mine:
        path = f"/api/v1/conversations/{talk.pk}"

        def get(self, id="", **query):
            return api(alice).get(f"{self.path}/messages{f'/{id}' if id else ''}", query)

        def say(self, content="Hello", **body):
            return api(alice).post(f"{self.path}/messages", {"content": content, **body})

        def edit(self, message, content, **body):
            return api(alice).patch(f"{self.path}/messages/{message.pk}", {"content": content, **body})

        def choose(self, id):
            return api(alice).patch(self.path, {"head": str(id)})

        def texts(self, **query):
            return "".join(row["content"] for row in self.get(**query).json()["results"])

    return Mine()


def message(talk, content):
    return Message.objects.get(conversation=talk, content=content)


def code(answer):
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["param"]


def test_what_is_said_goes_to_the_end_and_comes_newest_first(mine, talk):
    answer = mine.say("5", metadata={"mood": "calm"})

    body = answer.json()
    assert answer.status_code == 201
    assert body == mine.get(body["id"]).json()
    assert (body["role"], body["sequence"], body["parent"]) == ("user", 5, str(message(talk, "4").pk))
    assert mine.texts() == "54321"


def test_pages_can_be_followed(mine, api, alice):
    seen, page = [], mine.get(limit=1).json()
    while page["next"]:
        seen += page["results"]
        page = api(alice).get(page["next"]).json()
    assert [row["content"] for row in [*seen, *page["results"]]] == ["4", "3", "2", "1"]


def test_an_edit_is_a_branch_and_both_stay(mine, talk):
    answer = mine.edit(message(talk, "3"), "3b")

    assert answer.status_code == 201
    assert answer.json()["parent"] == str(message(talk, "2").pk)
    assert mine.texts() == "3b21"
    said(talk, "4b", role="assistant")
    assert mine.texts() == "4b3b21"
    assert mine.texts(branch=str(message(talk, "4").pk)) == "4321"
    assert mine.texts(all="true") == "4b3b4321"

    assert mine.choose(message(talk, "4").pk).json()["head"] == str(message(talk, "4").pk)
    assert mine.texts() == "4321"
    mine.say("5")
    assert mine.texts() == "54321"
    assert mine.texts(all="true", limit=2) == "54b"


def test_the_first_message_can_be_edited_and_begun_anew(mine, talk):
    mine.edit(message(talk, "1"), "1b")
    assert mine.texts() == "1b"
    mine.say("1c", parent=None)
    assert mine.texts() == "1c"
    mine.say("2b", parent=str(message(talk, "1").pk))
    assert mine.texts() == "2b1"
    assert mine.texts(all="true") == "2b1c1b4321"


def test_only_what_people_say_is_edited(mine, talk):
    assert code(mine.edit(message(talk, "2"), "x")) == (400, "not_editable", "role")
    assert mine.texts() == "4321"


def test_a_tool_answers_its_call(mine):
    assert mine.say("42", role="tool", tool_call_id="call_1").json()["tool_call_id"] == "call_1"
    assert mine.say("", role="tool").status_code == 201
    assert mine.say("x", tool_call_id="call_1").status_code == 400
    assert code(mine.say("x", role="assistant")) == (400, "invalid_choice", "role")


def test_who_sends_a_message_again_finds_the_first(mine, talk):
    first, second = mine.say("5", client_message_id="update-7"), mine.say("5", client_message_id="update-7")

    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json() == second.json()
    assert code(mine.say("6", client_message_id="update-7")) == (409, "client_message_id_reused", "client_message_id")
    assert mine.texts() == "54321"
    edits = [mine.edit(message(talk, "5"), "5b", client_message_id="update-8") for _ in range(2)]
    assert [answer.status_code for answer in edits] == [201, 200]
    talk.refresh_from_db()
    assert (mine.texts(all="true"), talk.last_sequence) == ("5b54321", 6)


@pytest.mark.parametrize(
    ("body", "status", "expected"),
    [
        ({"content": ""}, 400, "blank"),
        ({"content": " \n\u00a0\u3000\t"}, 400, "blank"),
        ({"content": None}, 400, "null"),
        ({"content": ["x"]}, 400, "invalid"),
        ({"content": "a\0b"}, 400, "nul_character"),
        ({"content": "x" * 1024 * 1024}, 400, "content_too_long"),
        ({"content": "x", "parent": str(uuid7())}, 404, "message_not_found"),
        ({"content": "x", "parent": "me"}, 400, "invalid"),
        ({"content": "x", "client_message_id": ""}, 400, "blank"),
        ({"content": "x", "client_message_id": "é"}, 400, "invalid"),
        ({"content": "x", "client_message_id": "x" * 101}, 400, "invalid"),
        ({"content": "x", "metadata": []}, 400, "not_a_dict"),
    ],
)
def test_bad_input_is_refused_and_writes_nothing(mine, talk, body, status, expected):
    answer = mine.say(**body)

    assert (answer.status_code, answer.json()["error"]["code"]) == (status, expected)
    assert mine.texts(all="true") == "4321"
    assert Conversation.objects.get().last_sequence == 4


def test_lone_surrogates_are_refused_and_ten_thousand_accents_are_a_text(api, alice, mine):
    path = f"{mine.path}/messages"
    answer = api(alice).generic("POST", path, b'{"content": "\\ud800"}', "application/json; x")
    assert answer.status_code == 400
    accents = "e" + "\N{COMBINING ACUTE ACCENT}" * 10_000
    assert mine.say(accents).json()["content"] == accents


def test_other_peoples_messages_are_nobodys_here(api, alice, bob, mine, talk):
    theirs = a_conversation(bob, "secret")
    for foreign in (theirs.head_id, uuid7()):
        assert code(mine.say("x", parent=str(foreign))) == (404, "message_not_found", "parent")
        assert code(mine.choose(foreign)) == (404, "message_not_found", "head")
        assert code(mine.get(branch=str(foreign))) == (404, "message_not_found", "branch")
        assert code(mine.get(cursor=str(foreign))) == (404, "message_not_found", "cursor")
        assert code(mine.get(foreign)) == (404, "message_not_found", None)
        assert mine.edit(Message(pk=foreign), "x").status_code == 404
    elsewhere = api(bob).post(
        f"/api/v1/conversations/{theirs.pk}/messages", {"content": "x", "parent": str(talk.head_id)}
    )
    assert elsewhere.status_code == 404
    assert code(mine.get(branch="me"))[:2] == (400, "invalid")
    assert mine.get(limit=0).status_code == 400


def test_the_database_refuses_what_the_service_never_writes(alice, talk):
    other = a_conversation(alice, "elsewhere")
    first, last = message(talk, "1"), message(talk, "4")

    def refused(constraint, **fields):
        with pytest.raises(IntegrityError) as refusal, transaction.atomic():
            said(talk, "x", **fields)
        assert threads.violates(refusal.value, constraint)

    refused("message_parent_known", at_head=False, parent=other.head_id)
    refused("message_parent_known", at_head=False, parent=uuid7())
    refused("message_reply_to_known", role="assistant", reply_to_id=other.head_id)
    refused("message_only_assistants_reply", reply_to_id=first.pk)
    refused("message_only_tools_answer_calls", tool_call_id="call_1")
    refused("message_status_known", status="lost")
    for parent, constraint in ((last, "message_parent_known"), (first, "message_parent_known")):
        with pytest.raises(IntegrityError) as refusal, transaction.atomic():
            Message.objects.filter(pk=first.pk).update(parent=parent)
        assert threads.violates(refusal.value, constraint)
    with pytest.raises(IntegrityError, match="conversation_archived_is_inactive"), transaction.atomic():
        Conversation.objects.filter(pk=talk.pk).update(is_active=False)


def test_a_branch_costs_one_statement_however_long(talk, django_assert_num_queries):
    for number in range(30):
        said(talk, str(number))
    talk.refresh_from_db()
    with django_assert_num_queries(1):
        assert len(threads.branch(conversation_id=talk.pk, last=talk.head_id)) == 34
    assert threads.branch(conversation_id=talk.pk, last=None) == []
    first, last = talk.messages.order_by("sequence")[0], talk.head_id
    other, _is_new = threads.edit(message=first, content="Otherwise")
    for wanted, end, expected in ((first.pk, last, True), (other.pk, last, False), (first.pk, None, False)):
        assert threads.is_on_branch(conversation_id=talk.pk, wanted=wanted, last=end) is expected


@pytest.mark.django_db(transaction=True)
def test_who_writes_at_once_comes_one_after_the_other(alice):
    """No number is given twice or left out, everybody's message has a place, and a client's id is used once."""
    talk = a_conversation(alice, "1")
    start, found = threading.Barrier(6), []

    def write(name):
        start.wait()
        for number in range(5):
            client_id = {"client_message_id": f"same-{number}"} if name in "ab" else {}
            content = f"same {number}" if client_id else f"{name} {number}"
            found.append(threads.say(conversation_id=talk.pk, role=Message.Role.USER, content=content, **client_id))
        connection.close()

    writers = [threading.Thread(target=write, args=(name,)) for name in "abcdef"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    rows = list(talk.messages.order_by("sequence"))
    talk.refresh_from_db()
    assert [row.sequence for row in rows] == list(range(1, 27))
    assert [row.parent_id for row in rows[1:]] == [row.pk for row in rows[:-1]]
    assert (talk.head_id, talk.last_sequence) == (rows[-1].pk, 26)
    assert sum(is_new for _message, is_new in found) == 25
