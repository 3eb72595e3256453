"""POST /api/v1/conversations/{id}/reply: what the model is told, what is written, and what a retry gets."""

import orjson
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.caller import Caller
from conversations import channels, context, replies, threads
from conversations.exceptions import ReplyInProgress
from conversations.models import ChannelConfig, Conversation
from conversations.tests.calls import post
from conversations.tests.factories import said
from inference.models import Model, Request
from inference.routes import forget_routes
from inference.services import Status, Usage
from inference.stub.answers import TEXT
from prompts.tests.factories import a_template
from quotas.models import Quota
from quotas.tests.factories import QuotaFactory

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def talk(alice, models):
    QuotaFactory(user=alice, unit="requests", limit=1000)
    QuotaFactory(user=alice, unit="tokens", limit=10**9)
    return Conversation.objects.create(user=alice, model_override="instant")


@pytest.fixture
def reply(alice, talk):
    def ask(content="Hello", of=alice, **body):
        headers = body.pop("headers", {})
        return post(of, f"/api/v1/conversations/{talk.pk}/reply", {"content": content, **body}, **headers)

    return ask


def told(stub):
    """What the model was told last."""
    return [(message["role"], message["content"]) for message in stub.requests[-1].body["messages"]]


def code(answer):
    return answer[0].status_code, orjson.loads(answer[1])["error"]["code"]


def texts(talk):
    return [(row.role, row.content) for row in talk.messages.order_by("sequence")]


def test_a_reply_is_written_beside_what_was_said(reply, talk, alice, stub):
    answer, raw = reply("  What is a ring? ")

    body = orjson.loads(raw)
    question, written = talk.messages.order_by("sequence")
    assert answer.status_code == 200
    assert body["choices"][0]["message"]["content"] == TEXT == written.content
    assert (body["conversation_id"], body["user_message_id"], body["message_id"]) == (
        *(str(talk.pk), str(question.pk)),
        str(written.pk),
    )
    assert (written.parent, written.reply_to, written.status, written.model_used) == (
        *(question, question, "complete"),
        "instant",
    )
    assert question.request_id == written.request_id == Request.objects.get().pk
    talk.refresh_from_db()
    assert (talk.head_id, talk.title) == (written.pk, "What is a ring?")
    assert told(stub) == [("user", "  What is a ring? ")]
    assert Quota.objects.get(user=alice, unit="requests").current_usage == 1


def test_a_stream_begins_with_the_ids(reply, talk):
    answer, raw = reply(stream=True)

    first, *events = raw.decode().strip().split("\n\n")
    written = talk.messages.latest("sequence")
    assert answer["Content-Type"] == "text/event-stream"
    assert first.startswith("event: message_ids\ndata: ")
    assert orjson.loads(first.partition("data: ")[2])["message_id"] == str(written.pk)
    deltas = [orjson.loads(event.removeprefix("data: "))["choices"][0]["delta"] for event in events[:-1]]
    assert "".join(delta.get("content", "") for delta in deltas) == written.content == TEXT
    assert events[-1] == "data: [DONE]"


def test_the_channel_decides_what_nobody_else_says(reply, talk, stub):
    ChannelConfig.objects.filter(name="api").update(
        default_model="echo", system_prompt="Be brief.", temperature=0.5, max_tokens=7, context_messages=2
    )
    channels.forget_channels()
    Conversation.objects.update(model_override="")
    for number in range(3):
        said(talk, f"said {number}", role="assistant" if number % 2 else "user")

    reply("Now", temperature=1)

    sent = stub.requests[-1].body
    assert told(stub) == [("system", "Be brief."), ("assistant", "said 1"), ("user", "said 2"), ("user", "Now")]
    assert (sent["model"], sent["temperature"], sent["max_tokens"], "top_p" in sent) == ("echo", 1, 7, False)


def test_a_template_speaks_first_and_the_request_knows_its_version(reply, talk, olga, stub):
    a_template(olga, "Be kind.", name="kind")
    template = olga.prompt_templates.get()
    ChannelConfig.objects.filter(name="api").update(prompt_template=template)
    channels.forget_channels()

    reply()

    assert told(stub)[0] == ("system", "Be kind.")
    assert Request.objects.get().prompt_version_id == template.versions.get().pk


def test_only_as_much_of_the_past_goes_along_as_the_model_takes(reply, api, alice, talk, stub):
    Model.objects.filter(name="instant").update(context_window=200, max_output_tokens=50)
    long_ago, lately = "x" * 300, "y" * 90
    said(talk, long_ago)
    said(talk, lately, role="assistant")

    shown = api(alice).get(f"/api/v1/conversations/{talk.pk}/context").json()
    reply("z" * 30)

    assert (shown["left_out"], shown["model"], shown["tokens"]) == (0, "instant", 146)
    assert [content for _role, content in told(stub)] == [lately, "z" * 30]


def test_a_tools_answer_does_not_go_without_its_call():
    call = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    rows = [
        context.Said("1", "", "assistant", "", call),
        context.Said("2", "1", "tool", "42", [], "c"),
        context.Said("3", "2", "assistant", "It is 42."),
    ]
    assert context.fitting(rows, room=1000) == rows
    assert context.fitting(rows, room=40) == rows[2:]
    assert context.fitting(rows, room=0) == []


@pytest.mark.parametrize("stream", [False, True])
def test_tool_calls_are_kept_and_their_results_answered(reply, talk, alice, api, stub, stream):
    reply(model="tools", stream=stream, tools=[{"type": "function", "function": {"name": "get_weather"}}])

    written = talk.messages.latest("sequence")
    (call,) = written.tool_calls
    assert (call["function"]["name"], call["function"]["arguments"]) == ("get_weather", '{"city": "Vienna"}')
    path = f"/api/v1/conversations/{talk.pk}/messages"
    api(alice).post(path, {"role": "tool", "content": "Sun", "tool_call_id": call["id"]})
    answer, _raw = reply(None)

    assert answer.status_code == 200
    assert [role for role, _content in told(stub)] == ["user", "assistant", "tool"]
    assert [role for role, _content in texts(talk)] == ["user", "assistant", "tool", "assistant"]
    assert code(reply(None)) == (400, "required")


@pytest.mark.parametrize("how", ["key", "client_message_id"])
@pytest.mark.parametrize("stream", [False, True])
def test_however_often_it_is_sent_there_is_one_answer(reply, talk, stub, alice, how, stream):
    given = {"headers": {"Idempotency-Key": "k"}} if how == "key" else {"client_message_id": "update-7"}
    answers = [reply(stream=stream, **given) for _ in range(3)]

    assert [answer.status_code for answer, _raw in answers] == [200] * 3
    assert [answer.get("Idempotent-Replayed") for answer, _raw in answers] == [None, "true", "true"]
    written = talk.messages.latest("sequence")
    assert len(stub.requests) == 1
    assert [role for role, _content in texts(talk)] == ["user", "assistant"]
    for _answer, raw in answers:
        assert str(written.pk).encode() in raw
        assert b"lazy" in raw
    assert Quota.objects.get(user=alice, unit="requests").current_usage == 1
    if how == "client_message_id":
        assert code(reply("Other", **given)) == (409, "client_message_id_reused")
    else:
        assert code(reply("Other", **given)) == (422, "idempotency_key_reused")


@pytest.mark.parametrize("how", ["key", "client_message_id"])
def test_what_failed_is_answered_by_the_retry_and_said_once(reply, talk, how):
    given = {"headers": {"Idempotency-Key": "k"}} if how == "key" else {"client_message_id": "update-7"}
    assert reply(model="error-500", **given)[0].status_code == 502
    assert texts(talk) == [("user", "Hello")]

    # The same key goes with the same body; only the model server is well again.
    Model.objects.filter(name="error-500").update(upstream_name="instant")
    forget_routes()

    assert reply(model="error-500", **given)[0].status_code == 200
    assert texts(talk) == [("user", "Hello"), ("assistant", TEXT)]


def test_what_breaks_off_is_kept_as_far_as_it_came(reply, talk):
    _answer, raw = reply(model="die-midstream", stream=True)

    written = talk.messages.latest("sequence")
    assert b'"error"' in raw
    assert (written.status, written.content) == ("partial", "The quick brown ")


@pytest.mark.parametrize(
    ("body", "status", "expected"),
    [
        ({"content": " \n"}, 400, "blank"),
        ({"content": ["x"]}, 400, "invalid_type"),
        ({"content": "a\0b"}, 400, "nul_character"),
        ({"content": "x" * 1024 * 1024}, 400, "content_too_long"),
        ({"content": None}, 400, "required"),
        ({"content": "x", "stream": "yes"}, 400, "invalid_type"),
        ({"content": "x", "client_message_id": 7}, 400, "invalid_value"),
        ({"content": "x", "model": "deleted"}, 404, "model_not_found"),
        ({"content": "x", "model": ["m"]}, 400, "required"),
        ({"content": "x", "max_tokens": "many"}, 400, "invalid_type"),
    ],
)
def test_bad_input_costs_and_writes_nothing(reply, talk, alice, body, status, expected):
    assert code(reply(**body)) == (status, expected)
    assert texts(talk) == []
    assert not Request.objects.exists()
    assert Quota.objects.get(user=alice, unit="requests").current_usage == 0


def test_others_and_the_switched_off_are_refused(reply, talk, bob):
    assert code(reply(of=bob)) == (404, "not_found")
    ChannelConfig.objects.filter(name="api").update(is_active=False)
    channels.forget_channels()
    assert code(reply()) == (403, "channel_off")
    ChannelConfig.objects.filter(name="api").update(is_active=True, rate_limits={"requests": {"minute": 1}})
    channels.forget_channels()
    assert reply()[0].status_code == 200
    assert code(reply()) == (429, "rate_limit_exceeded")
    Conversation.objects.update(deleted_at=talk.started_at)
    assert code(reply()) == (404, "not_found")


@pytest.mark.parametrize("stream", [False, True])
def test_another_answer_stands_beside_the_first(reply, talk, alice, stub, stream):
    reply("Why?")
    first = talk.messages.latest("sequence")
    reply("And then?")

    def again(id, **body):
        path = f"/api/v1/conversations/{talk.pk}/messages/{id}/regenerate"
        return post(alice, path, {"stream": stream, **body})

    answer, raw = again(first.pk, model="echo")

    second = talk.messages.latest("sequence")
    talk.refresh_from_db()
    assert (answer.status_code, str(second.pk).encode() in raw) == (200, True)
    assert (second.parent, second.reply_to, second.model_used) == (first.parent, first.parent, "echo")
    assert talk.head_id == second.pk
    assert told(stub) == [("user", "Why?")]
    assert talk.messages.count() == 5
    assert code(again(first.parent_id)) == (400, "not_an_answer")
    assert code(again(talk.pk)) == (404, "message_not_found")


# Turns without the wire --------------------------------------------------------------------------------------------


def turn(talk, content="Hello", answer="Hi", **body):
    """Open a turn, and what ends it."""
    caller = Caller(user_id=talk.user_id)
    opened = replies.open_reply(caller=caller, conversation_id=talk.pk, body={"content": content, **body})

    def end():
        outcome = opened.call.outcome
        outcome.status, outcome.usage, outcome.text = Status.SUCCESS, Usage.REPORTED, answer
        outcome.input_tokens, outcome.output_tokens = 5, 2
        opened.settle()

    return opened, end


def test_a_warm_turn_costs_six_statements_and_its_context_none(talk):
    for _ in range(2):
        turn(talk)[1]()

    def statements(work):
        with CaptureQueriesContext(connection) as captured:
            work()
        return [row["sql"] for row in captured if row["sql"].split()[0] not in {"BEGIN", "COMMIT", "SAVEPOINT"}]

    warm = statements(lambda: turn(talk)[1]())
    context.forget([talk.pk])
    cold = statements(lambda: turn(talk)[1]())

    assert len(warm) == 6, "\n\n".join(warm)
    assert len(cold) == 7
    assert sum("RECURSIVE" in sql for sql in cold) == 1
    assert not any("RECURSIVE" in sql for sql in warm)
    assert len(statements(lambda: turn(talk, client_message_id="c")[1]())) <= 10


def test_showing_the_context_costs_one_statement_when_it_is_warm(talk, api, alice, django_assert_num_queries):
    turn(talk, "1", "2")[1]()
    client = api(alice)
    client.get("/api/v1/users/me")

    def shown():
        return client.get(f"/api/v1/conversations/{talk.pk}/context").json()

    with django_assert_num_queries(1):
        warm = shown()
    context.forget([talk.pk])
    with django_assert_num_queries(2):
        assert shown() == warm
    assert [message["content"] for message in warm["messages"]] == ["1", "2"]


def test_the_context_is_never_wrong(talk, api, alice):
    """Whoever writes how and where: what the cache says is what the database says."""

    def seen(most=20):
        found = Conversation.objects.get(pk=talk.pk)
        cached = context.latest(conversation_id=talk.pk, head=found.head_id, most=most)
        rows = threads.branch(conversation_id=talk.pk, last=found.head_id, most=most)
        assert cached == [context.Said.of(row) for row in rows[::-1]]
        return [row.content for row in cached]

    assert seen() == []
    turn(talk, "1", "2")[1]()
    assert seen() == ["1", "2"]
    said(talk, "3")
    assert seen() == ["1", "2", "3"]
    threads.edit(message=talk.messages.get(content="3"), content="3b")
    assert seen() == ["1", "2", "3b"]
    api(alice).patch(f"/api/v1/conversations/{talk.pk}", {"head": str(talk.messages.get(content="3").pk)})
    assert seen() == ["1", "2", "3"]
    for number in range(15):
        turn(talk, f"q{number}", f"a{number}")[1]()
        assert len(seen()) == min(20, 5 + 2 * number)
    assert seen(30)[0] == "q0"
    turn(talk, "last", "word")[1]()
    assert seen(30)[-2:] == ["last", "word"]
    api(alice).delete(f"/api/v1/conversations/{talk.pk}")
    assert not context.redis_client().exists(context.of_conversation(talk.pk))


def test_without_redis_the_database_answers(talk, redis_away):
    turn(talk, "1", "2")[1]()
    talk.refresh_from_db()
    assert [row.content for row in context.latest(conversation_id=talk.pk, head=talk.head_id, most=5)] == ["1", "2"]


def test_two_who_write_at_once_are_both_answered_on_one_branch(talk):
    (_first, end_first), (_second, end_second) = turn(talk, "A", "to A"), turn(talk, "B", "to B")
    end_second()
    end_first()

    talk.refresh_from_db()
    shown = threads.branch(conversation_id=talk.pk, last=talk.head_id)
    assert [row.content for row in shown[::-1]] == ["A", "B", "to B", "to A"]
    assert {row.content: row.reply_to.content for row in shown if row.reply_to} == {"to A": "A", "to B": "B"}


def test_who_edits_before_the_answer_comes_has_it_on_the_former_branch(talk):
    opened, end = turn(talk, "A", "to A")
    other, _is_new = threads.edit(message=opened.message, content="A2")
    end()

    talk.refresh_from_db()
    assert talk.head_id == other.pk
    answer = talk.messages.get(content="to A")
    assert answer.parent_id == opened.message.pk


def test_another_answer_does_not_take_the_branch_from_who_went_on(talk):
    turn(talk, "A", "to A")[1]()
    answer, caller = talk.messages.latest("sequence"), Caller(user_id=talk.user_id)
    opened = replies.open_regeneration(caller=caller, conversation_id=talk.pk, answer_id=answer.pk, body={})
    with pytest.raises(ReplyInProgress):
        replies.open_regeneration(caller=caller, conversation_id=talk.pk, answer_id=answer.pk, body={})
    later = said(talk, "B")
    opened.call.outcome.text = "to A, otherwise"
    opened.call.outcome.status, opened.call.outcome.usage = Status.SUCCESS, Usage.REPORTED
    opened.settle()

    talk.refresh_from_db()
    assert talk.head_id == later.pk
    assert talk.messages.latest("sequence").parent_id == answer.parent_id


def test_what_came_before_the_caller_left_is_kept(talk):
    opened, _end = turn(talk, stream=True)
    outcome = opened.call.outcome
    outcome.status, outcome.usage, outcome.text = Status.CANCELLED, Usage.ESTIMATED, "The qui"
    outcome.error_code = "client_disconnected"
    opened.settle()

    written = talk.messages.latest("sequence")
    assert (written.status, written.content) == ("cancelled", "The qui")


def test_an_answer_that_comes_after_the_end_is_paid_and_not_written(talk, alice):
    _opened, end = turn(talk)
    Conversation.objects.update(deleted_at=talk.started_at)
    end()

    assert [role for role, _content in texts(talk)] == ["user"]
    assert Quota.objects.get(user=alice, unit="tokens").current_usage == 7


def test_while_a_message_is_answered_nobody_else_answers_it(talk):
    _opened, end = turn(talk, client_message_id="c")
    with pytest.raises(ReplyInProgress):
        turn(talk, client_message_id="c")
    with pytest.raises(ReplyInProgress):
        turn(talk, None)
    end()
    with pytest.raises(replies.RepliedBefore):
        turn(talk, client_message_id="c")


def test_a_call_that_was_given_up_does_not_answer_beside_the_one_that_took_over(talk):
    _opened, end_late = turn(talk, answer="late", client_message_id="c")
    Request.objects.update(status="error", finished_at=timezone.now())
    opened, end = turn(talk, answer="in time", client_message_id="c")
    assert opened.message.sequence == 1
    end()
    end_late()

    assert texts(talk) == [("user", "Hello"), ("assistant", "in time")]
