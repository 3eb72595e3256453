"""Conversations as files: …/export, …/import, and the commands that do the same."""

import io
import json
from datetime import UTC, datetime

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command
from django.test.client import MULTIPART_CONTENT

from accounts.models import AuditEvent
from conversations import lifecycle, threads
from conversations.models import Conversation, Message
from conversations.tests.factories import a_conversation, said
from conversations.transfer import reading, writing
from conversations.transfer.importing import import_conversations

EXPORT = "/api/v1/conversations/export"
IMPORT = "/api/v1/conversations/import"
TALK_FIELDS = ("channel", "title", "model_override", "tags", "metadata", "is_active", "archived_at", "pinned_at")
SAID_FIELDS = (
    *("sequence", "role", "status", "content", "tool_calls", "tool_call_id", "client_message_id", "model_used"),
    *("token_count", "metadata", "created_at"),
)


@pytest.fixture
def talks(alice):
    """With branches, tools, times and everything else that a conversation can have; and one without messages."""
    talk = a_conversation(alice, "1 é שלום 🎉 \u2028", "2", "3", title="A\ntitle", channel="web", tags=["a", "b"])
    first = talk.messages.get(sequence=1)
    threads.edit(message=first, content="1b", client_message_id="update-7")
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    said(talk, "", role="assistant", tool_calls=[call], reply_to_id=first.pk, model_used="m", token_count=7)
    said(talk, "42", role="tool", tool_call_id="call_1", metadata={"mood": ["calm", 1.5, None]})
    said(talk, "4", role="assistant", status="partial")
    Conversation.objects.filter(pk=talk.pk).update(head=talk.messages.get(sequence=6), model_override="m")
    Message.objects.filter(pk=first.pk).update(created_at=datetime(2024, 2, 29, 23, 59, 59, 123456, tzinfo=UTC))
    empty = a_conversation(alice, started_at=datetime(2023, 1, 1, tzinfo=UTC))
    lifecycle.archive(conversation=empty, is_archived=True)
    lifecycle.pin(conversation=empty, is_pinned=True)
    return [talk, empty]


def tree(user):
    """All that a user's conversations are, without their ids."""
    return [
        {name: getattr(talk, name) for name in (*TALK_FIELDS, "started_at", "last_activity", "last_sequence")}
        | {"head": talk.head and talk.head.sequence}
        | {"messages": [_said(message) for message in talk.messages.order_by("sequence")]}
        for talk in Conversation.objects.of(user.pk).order_by("pk")
    ]


def _said(message):
    named = {name: getattr(message, name) and getattr(message, name).sequence for name in ("parent", "reply_to")}
    return {name: getattr(message, name) for name in SAID_FIELDS} | named


def exported(api, user, path=EXPORT, **query):
    answer = api(user).get(path, query)
    assert answer.status_code == 200, answer.content
    return b"".join(answer.streaming_content)


def send(client, data, query=""):
    if not isinstance(data, bytes):
        data = (data if isinstance(data, str) else json.dumps(data)).encode()
    return client.generic("POST", f"{IMPORT}{query}", data, "application/x-ndjson")


def test_what_is_exported_and_imported_by_another_is_the_same(api, alice, bob, talks, monkeypatch):
    monkeypatch.setattr(writing, "BATCH", 3)
    a_conversation(bob, "not hers")
    lifecycle.delete(conversation=a_conversation(alice, "gone"))
    a_conversation(alice, title="After it")
    file = exported(api, alice)
    assert b"gone" not in file
    assert b"not hers" not in file
    Conversation.objects.filter(user=bob).delete()

    answer = send(api(bob), file)

    assert (answer.status_code, answer.json()) == (201, {"conversations": 3, "messages": 7})
    assert tree(bob) == tree(alice)
    assert exported(api, bob) == file
    assert AuditEvent.objects.get(action="conversation.imported").metadata["messages"] == 7
    ours = Conversation.objects.filter(user=bob, last_sequence=7).get()
    assert said(ours, "next").sequence == 8


def test_one_conversation_in_each_format(api, alice, talks):
    path = f"/api/v1/conversations/{talks[0].pk}/export"
    one = json.loads(exported(api, alice, path))
    assert (len(one["messages"]), one["head"]) == (7, 6)
    assert [message["parent"] for message in one["messages"]] == [None, 1, 2, None, 4, 5, 6]

    messages = json.loads(exported(api, alice, path, format="openai"))["messages"]
    assert [(message["role"], message["content"]) for message in messages] == [
        *(("user", "1b"), ("assistant", None), ("tool", "42")),
    ]
    assert messages[1]["tool_calls"][0]["id"] == messages[2]["tool_call_id"] == "call_1"
    text = exported(api, alice, path, format="markdown").decode()
    assert text.startswith("# A title\n")
    assert "1b" in text
    assert "שלום" not in text
    assert api(alice).get(path, {"format": "xml"}).status_code == 400
    assert exported(api, alice, format="markdown").decode().count("\n---\n") == 1


@pytest.mark.parametrize("as_list", [False, True])
def test_openai_messages_come_in(api, alice, as_list):
    parts = [
        {"type": "text", "text": "What is"},
        {"type": "image_url", "image_url": {}},
        {"type": "text", "text": "it?"},
    ]
    talk = {"messages": [{"role": "developer", "content": "Be kind."}, {"role": "user", "content": parts}]}
    data = json.dumps([talk, talk] if as_list else talk, indent=2)
    assert send(api(alice), data, "?format=openai").json()["messages"] == (4 if as_list else 2)
    kept = Conversation.objects.filter(user=alice).earliest("id")
    assert (kept.title, kept.channel, kept.last_sequence) == ("What is it?", "api", 2)
    assert [message.content for message in threads.branch(conversation_id=kept.pk, last=kept.head_id)] == [
        *("What is\nit?", "Be kind."),
    ]


def node(id, parent, text=None, role="user", time=None, **rest):
    content = {"content_type": "text", "parts": [text]}
    message = {"id": id, "author": {"role": role}, "create_time": time, "content": content, **rest}
    return {id: {"id": id, "parent": parent, "children": [], "message": None if text is None else message}}


def test_chatgpts_export_keeps_its_branches(api, alice):
    mapping = (
        node("root", None)
        | node("hidden", "root", "", role="system")
        | node("answer", "ask", "Hello", role="assistant", time=20.5, metadata={"model_slug": "gpt-4o"})
        | node("ask", "hidden", "Hi", time=10.25)
        | node("other", "ask", "Good day", role="assistant", time=15)
        | node("tool", "answer", "42", role="tool", time=1, recipient="python")
    )
    talk = {"title": "Greeting", "create_time": 5.0, "update_time": 30, "mapping": mapping, "current_node": "tool"}

    answer = api(alice).post(
        IMPORT, {"file": SimpleUploadedFile("conversations.json", json.dumps([talk]).encode())}, MULTIPART_CONTENT
    )

    assert (answer.status_code, answer.json()) == (201, {"conversations": 1, "messages": 4})
    (kept,) = tree(alice)
    assert (kept["title"], kept["head"], kept["started_at"].timestamp()) == ("Greeting", 4, 5)
    assert [(row["content"], row["parent"], row["created_at"].timestamp()) for row in kept["messages"]] == [
        *(("Hi", None, 10.25), ("Good day", 1, 15), ("Hello", 1, 20.5), ("42", 3, 20.5)),
    ]
    assert (kept["messages"][2]["model_used"], kept["messages"][3]["metadata"]) == ("gpt-4o", {"recipient": "python"})


def own(*messages, **fields):
    rows = [{"sequence": place, "role": "user", "content": "x"} | row for place, row in enumerate(messages, start=1)]
    return json.dumps({"format": "mainstay-conversation", "version": 1, "messages": rows, **fields})


def circle(**nodes):
    return [{"mapping": {key: {"parent": parent} for key, parent in nodes.items()}, "current_node": "a"}]


GOOD = own({})


@pytest.mark.parametrize(
    ("data", "where", "code"),
    [
        (" \n\n", "The file is empty", "empty_file"),
        (f"{GOOD}\n{{broken\n{GOOD}", "Line 2: this is no JSON", "invalid_json"),
        (f"\n\n{GOOD[:-9]}\n", "Line 3: this is no JSON", "invalid_json"),
        (f"{GOOD}\n\n42\n", "Line 3: the conversation must be an object", "invalid_file"),
        (GOOD.encode() + b"\n{\xff}", "Line 2: this is no JSON", "invalid_json"),
        (f"[{GOOD}, {GOOD}", "Conversation 2: a ] is missing after it", "invalid_json"),
        (f"[{GOOD}, {GOOD[:-3]}]", "Conversation 2: this is no JSON", "invalid_json"),
        (f"[{GOOD} {GOOD}]", "Conversation 1: a ] is missing", "invalid_json"),
        (f"[{GOOD}] x", "Conversation 1: something comes after", "invalid_json"),
        ("[[[", "Conversation 1: this is no JSON", "invalid_json"),
        (f"[{'[' * 100_000}", "Conversation 1: it is nested too deep", "invalid_json"),
        (b"[\xff]", "Conversation 0: this is no UTF-8", "invalid_json"),
        ('[{"messages": NaN}]', "Conversation 1: this is no JSON: NaN", "invalid_json"),
        ({"text": "x"}, "Line 1: It has neither", "unknown_format"),
        (own({}, version=2), "Line 1: version must be 1", "unknown_format"),
        (own({}, channel="nowhere"), "Line 1: There is no such channel", "unknown_channel"),
        (own({}, title="x" * 201), "Line 1: title has more than 200", "too_long"),
        (own({}, tags=["x"] * 21), "Line 1: tags must", "invalid_file"),
        (own({}, metadata={"a": "\0"}), "Line 1: metadata cannot be kept", "nul_character"),
        (own({}, started_at="yesterday"), "Line 1: started_at must be a time", "invalid_file"),
        (own({}, started_at="0001-01-01T00:00:00+14:00"), "Line 1: started_at must be a time", "invalid_file"),
        (own({}, head=2), "Line 1: head names no message", "unknown_message"),
        (own({}, {"parent": 2}), "Line 1: messages.1.parent names no message", "unknown_message"),
        (own({}, {"sequence": 1}), "Line 1: messages.1.sequence must", "invalid_file"),
        (own({}, {"parent": True}), "Line 1: messages.1.parent must", "invalid_file"),
        (own({"role": "judge"}), "Line 1: messages.0.role must", "invalid_choice"),
        (own({"role": ["user"]}), "Line 1: messages.0.role must", "invalid_choice"),
        (own({"content": " "}), "Line 1: messages.0.content cannot", "blank"),
        (own({"content": "x" * 300_000}), "Line 1: messages.0.content cannot", "content_too_long"),
        (own({"content": "\0"}), "Line 1: messages.0.content cannot", "nul_character"),
        (f"[{own({'content': chr(0xD800)})}]", "Conversation 1: messages.0.content", "lone_surrogate"),
        (own({}, {"reply_to": 1}), "Line 1: messages.1.reply_to is", "invalid_file"),
        (own({"tool_call_id": "x"}), "Line 1: messages.0.tool_call_id is", "invalid_file"),
        (own({"client_message_id": "x"}, {"client_message_id": "x"}), "Line 1: messages.1.client", "invalid_file"),
        ({"messages": []}, "Line 1: messages must be a list of at least one", "invalid_file"),
        (circle(a=None, b="c", c="b"), "Conversation 1: mapping has a circle", "circle"),
        (circle(a="z"), "Conversation 1: mapping.a.parent names no node", "unknown_message"),
        (circle(b=None), "Conversation 1: current_node names no node", "unknown_message"),
        ([{"mapping": []}], "Conversation 1: mapping must be an object", "invalid_file"),
    ],
)
def test_a_bad_file_is_refused_whole_and_says_where(api, alice, data, where, code):
    answer = send(api(alice), data)

    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, code), error
    assert error["message"].startswith(where)
    assert not Conversation.objects.exists()


def test_a_file_is_broken_after_much_of_it_was_written(api, alice, monkeypatch):
    monkeypatch.setattr(writing, "BATCH", 2)
    answer = send(api(alice), f"{GOOD}\n" * 5 + own({}, head=9))
    assert answer.json()["error"]["message"].startswith("Line 6: head")
    assert not Conversation.objects.exists()
    assert not AuditEvent.objects.filter(action="conversation.imported").exists()


def test_an_array_is_read_in_pieces_however_long(alice, monkeypatch):
    monkeypatch.setattr(reading, "PIECE", 7)
    heard = []
    texts = ["é" * size for size in (1, 20, 3, 50)]
    file = io.BytesIO(f" [{', '.join(own({'content': text}) for text in texts)} ] \n".encode())
    import_conversations(user_id=alice.pk, by=None, file=file, channel="web", say=lambda *counts: heard.append(counts))
    assert [row["messages"][0]["content"] for row in tree(alice)] == texts
    assert heard == [(4, 4)]
    monkeypatch.setattr(reading, "MOST_BYTES_EACH", 60)
    for data in (f"[{GOOD}]", GOOD):
        with pytest.raises(Exception, match="a conversation has at most"):
            import_conversations(user_id=alice.pk, by=None, file=io.BytesIO(data.encode()), channel="web")


def test_commands_move_conversations_from_one_to_another(alice, bob, talks, tmp_path):
    path, out = tmp_path / "talks.jsonl", io.StringIO()
    call_command("export_conversations", path, user=alice.email, stdout=out, stderr=io.StringIO())
    call_command("import_conversations", path, user=bob.email, stdout=out, stderr=io.StringIO())
    assert tree(bob) == tree(alice)
    assert path.stat().st_mode & 0o077 == 0
    assert "Imported 2 conversations with 7 messages." in out.getvalue()
    for command, file, user, why in (
        ("export_conversations", path, alice.email, "File exists"),
        ("export_conversations", path, "nobody@example.com", "no user"),
        ("import_conversations", tmp_path / "none", alice.email, "No such file"),
        ("import_conversations", path, "nobody@example.com", "no user"),
    ):
        with pytest.raises(CommandError, match=why):
            call_command(command, file, user=user, stdout=out, stderr=io.StringIO())


def test_others_and_deleted_conversations_are_nobodys(api, bob, talks):
    path = f"/api/v1/conversations/{talks[0].pk}/export"
    assert api(bob).get(path).status_code == 404
    assert api().get(path).status_code == 401
    assert exported(api, bob) == b""
    lifecycle.delete(conversation=talks[0])
    assert api(talks[0].user).get(path).status_code == 404
