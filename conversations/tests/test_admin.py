"""Conversations in the admin: read as a chat."""

import pytest

from conversations.admin import conversations as admin
from conversations.models import Conversation, Message
from inference.models import Request
from tests.admin import page


@pytest.fixture
def operator(client, olga):
    client.force_login(olga)
    return client


def test_a_conversation_reads_as_a_chat(operator, alice):
    conversation = Conversation.objects.create(user=alice, title="Rings")
    request = Request.objects.create(user=alice, request_type="llm", model="smollm2")
    Message.objects.create(conversation=conversation, role="user", content="What is <b>a ring</b>?\nAnd a field?")
    Message.objects.create(
        conversation=conversation,
        role="assistant",
        content="A set …",
        model_used="smollm2",
        token_count=3,
        request=request,
    )

    html = operator.get(page(conversation)).content.decode()

    assert "What is &lt;b&gt;a ring&lt;/b&gt;?<br>And a field?" in html
    assert html.index('data-role="user"') < html.index('data-role="assistant"')
    assert "3 tokens" in html
    assert page(request) in html


def test_a_silent_conversation_says_so(operator, alice):
    conversation = Conversation.objects.create(user=alice)

    assert "Nothing has been said yet." in operator.get(page(conversation)).content.decode()
    assert "Without a title" in operator.get(page(Conversation, "changelist")).content.decode()


def test_only_the_latest_messages_of_a_long_conversation_are_shown(operator, alice, monkeypatch):
    monkeypatch.setattr(admin, "MOST_MESSAGES", 3)
    conversation = Conversation.objects.create(user=alice)
    for number in range(5):
        Message.objects.create(conversation=conversation, role="user", content=f"message {number}")

    answer = operator.get(page(conversation))

    assert [message.content for message in answer.context["chat"]] == ["message 2", "message 3", "message 4"]
    assert "Older messages are not shown." in answer.content.decode()


def test_conversations_count_their_messages_and_are_found(operator, alice, bob):
    mine = Conversation.objects.create(user=alice, title="Rings")
    Conversation.objects.create(user=bob, title="Fields")
    for _ in range(3):
        Message.objects.create(conversation=mine, role="user", content="x")

    def listed(**query):
        rows = operator.get(page(Conversation, "changelist"), query).context["cl"].result_list
        return {row.title: row.messages_count for row in rows}

    assert listed() == {"Rings": 3, "Fields": None}
    assert listed(q="alice@") == {"Rings": 3}
    assert listed(q="fiel") == {"Fields": None}


def test_a_conversation_that_is_not_there_leads_back(operator, alice):
    conversation = Conversation.objects.create(user=alice)
    address = page(conversation)
    conversation.delete()

    assert operator.get(address).headers["Location"] == "/admin/"
