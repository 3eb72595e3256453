"""The official OpenAI client, unmodified, against the real web server."""

import httpx
import openai
import orjson
import pytest

from accounts import services as accounts
from accounts.caller import Caller
from conversations.models import Conversation
from inference import stub as stubs
from inference.models import Request
from prompts import templates
from prompts.tests.factories import a_template

HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture
def client(web, account):
    with openai.OpenAI(base_url=f"{web.url}/v1", api_key=account.key, max_retries=0) as client:
        yield client


def test_models_are_listed_and_found(client):
    assert {"instant", "vectors"} <= {model.id for model in client.models.list()}
    assert client.models.retrieve("instant").object == "model"
    with pytest.raises(openai.NotFoundError) as refusal:
        client.models.retrieve("nothing-like-it")
    assert refusal.value.code == "model_not_found"


def test_a_chat_is_answered_charged_and_recorded(client, account):
    answer = client.chat.completions.create(model="instant", messages=HELLO)

    assert answer.choices[0].message.content == stubs.TEXT
    assert answer.usage.total_tokens == 70
    assert answer.model == "instant"
    assert account.usage() == {"llm.requests": (1, 0), "llm.tokens": (70, 0), "embedding.tokens": (0, 0)}
    request = Request.objects.get()
    assert (request.status, request.usage, request.input_tokens, request.output_tokens) == (
        "success",
        "reported",
        20,
        50,
    )
    assert request.request_data["messages"] == HELLO
    assert request.response_data["choices"][0]["message"]["content"] == stubs.TEXT
    assert request.api_key == account.user.api_keys.get()
    assert request.reservation.status == "confirmed"
    assert request.provider == "stub"


def test_a_stream_without_usage_has_none_and_is_charged_all_the_same(client, account):
    chunks = list(client.chat.completions.create(model="instant", messages=HELLO, stream=True))

    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == stubs.TEXT
    assert {chunk.usage for chunk in chunks} == {None}
    assert account.usage()["llm.tokens"] == (70, 0)
    assert Request.objects.get().is_stream


def test_a_stream_with_usage_ends_with_it(client):
    options = {"include_usage": True}
    *chunks, last = client.chat.completions.create(model="instant", messages=HELLO, stream=True, stream_options=options)

    assert last.choices == []
    assert last.usage.total_tokens == 70
    assert all(chunk.choices for chunk in chunks)


def test_what_we_do_not_know_reaches_the_model_untouched(client):
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]
    extra = {"a_new_parameter": {"x": [1, 2]}}
    answer = client.chat.completions.create(
        model="echo",
        messages=HELLO,
        tools=tools,
        n=2,
        stop=["a", "b"],
        response_format={"type": "json_object"},
        seed=7,
        max_completion_tokens=9,
        metadata={"team": "blue"},
        extra_body=extra,
    )

    received = orjson.loads(answer.choices[0].message.content)
    assert len(answer.choices) == 2
    assert received == {
        "model": "echo",
        "messages": HELLO,
        "tools": tools,
        "n": 2,
        "stop": ["a", "b"],
        "response_format": {"type": "json_object"},
        "seed": 7,
        "max_completion_tokens": 9,
        "metadata": {"team": "blue"},
        **extra,
    }


@pytest.mark.parametrize("stream", [False, True])
def test_tool_calls_pass(client, stream):
    answer = client.chat.completions.create(model="tools", messages=HELLO, stream=stream)
    if stream:
        deltas = [call for chunk in answer for call in chunk.choices[0].delta.tool_calls or []]
        arguments = "".join(call.function.arguments or "" for call in deltas)
    else:
        arguments = answer.choices[0].message.tool_calls[0].function.arguments
    assert arguments == stubs.TOOL["arguments"]


@pytest.mark.parametrize("model", ["vectors", "float-only-vectors"])
@pytest.mark.parametrize("given", ["one text", ["two", "texts"], [1, 2, 3], [[1, 2], [3]]])
def test_embeddings_come_as_the_client_asks(client, account, model, given):
    by_default = client.embeddings.create(model=model, input=given)
    as_floats = client.embeddings.create(model=model, input=given, encoding_format="float")

    assert isinstance(by_default.data[0].embedding[0], float)
    for one, other in zip(by_default.data, as_floats.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding)
    raw = httpx.post(
        f"{client.base_url}embeddings",
        json={"model": model, "input": given, "encoding_format": "base64"},
        headers={"Authorization": f"Bearer {account.key}"},
    )
    assert isinstance(raw.json()["data"][0]["embedding"], str)
    used, held = account.usage()["embedding.tokens"]
    assert held == 0
    assert used == sum(Request.objects.values_list("input_tokens", flat=True)) > 0


def test_errors_are_the_clients_own_classes(web, account, make_account):
    client = openai.OpenAI(base_url=f"{web.url}/v1", api_key=account.key, max_retries=0)
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="msk_000000000000_wrong").models.list()
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="nothing-like-it", messages=HELLO)
    with pytest.raises(openai.BadRequestError) as refusal:
        client.chat.completions.create(model="instant", messages=[])
    assert refusal.value.param == "messages"
    with pytest.raises(openai.BadRequestError) as refusal:
        client.chat.completions.create(model="refuse-400", messages=HELLO)
    assert refusal.value.param == "temperature"
    poor = client.with_options(api_key=make_account(requests=0).key)
    with pytest.raises(openai.RateLimitError) as refusal:
        poor.chat.completions.create(model="instant", messages=HELLO)
    assert refusal.value.code == "insufficient_quota"
    assert refusal.value.response.headers["x-should-retry"] == "false"
    assert refusal.value.response.headers["x-quota-reset"]


def test_a_client_that_retries_does_not_retry_an_exhausted_quota(web, make_account, stub):
    client = openai.OpenAI(base_url=f"{web.url}/v1", api_key=make_account(requests=0).key, max_retries=5)
    with pytest.raises(openai.RateLimitError):
        client.chat.completions.create(model="instant", messages=HELLO)
    assert not stub.requests


def test_a_revoked_key_is_refused_by_the_very_next_request(web, account):
    client = openai.OpenAI(base_url=f"{web.url}/v1", api_key=account.key, max_retries=0)
    client.models.list()
    accounts.revoke_api_key(key_id=account.user.api_keys.get().pk, by=account.user)
    with pytest.raises(openai.AuthenticationError):
        client.models.list()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("how", ["metadata", "header"])
def test_a_chat_that_names_a_conversation_is_kept_in_it(client, account, stub, how, stream):
    conversation = Conversation.objects.create(user=account.user)
    named = (
        {"metadata": {"conversation_id": str(conversation.pk)}}
        if how == "metadata"
        else {"extra_headers": {"X-Conversation-ID": str(conversation.pk)}}
    )
    answer = client.chat.completions.create(model="instant", messages=HELLO, stream=stream, **named)
    if stream:
        list(answer)

    question, reply = conversation.messages.all()
    assert (question.role, question.content) == ("user", "Hello")
    assert (reply.role, reply.content, reply.token_count) == ("assistant", stubs.TEXT, 50)
    assert question.request == reply.request == Request.objects.get()
    assert "metadata" not in stub.requests[0].body


def test_another_persons_conversation_does_not_exist(client, make_account):
    theirs = Conversation.objects.create(user=make_account().user)
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="instant", messages=HELLO, metadata={"conversation_id": str(theirs.pk)})
    assert not theirs.messages.exists()
    assert not Request.objects.exists()


def test_a_prompt_template_stands_for_messages_and_a_moved_label_is_seen_at_once(client, account):
    """The label is moved in this process, and the call is made in another."""
    by = Caller(user_id=account.user.pk)
    template = a_template(account.user, "Hello {{ who }}", name="greeting")
    templates.add_version(template=template, by=by, content="Goodbye {{ who }}")

    def said():
        prompt = {"name": "greeting", "variables": {"who": "Ada"}}
        answer = client.chat.completions.create(model="echo", messages=[], extra_body={"prompt": prompt})
        received = orjson.loads(answer.choices[0].message.content)
        assert "prompt" not in received
        return received["messages"]

    assert said() == said() == [{"role": "user", "content": "Hello Ada"}]
    templates.move_label(template=template, label="production", number=2, by=by)
    assert said() == [{"role": "user", "content": "Goodbye Ada"}]
    assert Request.objects.values_list("prompt_version_id", flat=True).distinct().order_by().count() == 2
