"""What a metered chat call costs: two statements of SQL, each a commit of its own, and one round trip to Redis."""

import pytest
from django.db import connection
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import resolve
from redis import Redis

from accounts.models import ApiKey
from conversations import services
from conversations.models import Conversation
from inference.models import Model, Provider, Request
from inference.services import Status, Usage
from prompts.rendering import forget_versions
from prompts.tests.factories import a_template
from quotas.idempotency import Answer, Attempt, claimed
from quotas.models import IdempotencyRecord
from quotas.tests.factories import QuotaFactory
from quotas.throttling import admitted_caller

PAYLOAD = {"model": "some-model", "messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture
def model(transactional_db):
    provider = Provider.objects.create(name="provider", base_url="http://127.0.0.1:9/v1")
    return Model.objects.create(name="some-model", upstream_name="m", provider=provider)


def call(key, idempotency_key=None, prompt=None, **options):
    """A whole call, as the edge makes it, without the model server."""
    request = RequestFactory().post("/v1/chat/completions", headers={"Authorization": f"Bearer {key}"})
    request.resolver_match = resolve("/v1/chat/completions")
    with CaptureQueriesContext(connection) as authenticating:
        caller = admitted_caller(request)
    payload = PAYLOAD if prompt is None else {"model": "some-model", "prompt": prompt}
    with CaptureQueriesContext(connection) as metering:
        attempt = Attempt(idempotency_key, "POST /v1/chat/completions", "0") if idempotency_key else None
        with claimed(user_id=caller.user_id, attempt=attempt) as claim:
            turn = services.open_chat(caller=caller, payload=payload, claim=claim, **options)
        outcome = turn.call.outcome
        outcome.answer = Answer(200, {}, b"Hello!")
        outcome.status, outcome.usage, outcome.text = Status.SUCCESS, Usage.REPORTED, "Hello!"
        outcome.input_tokens, outcome.output_tokens = 5, 2
        turn.settle()
    return len(authenticating), [query["sql"].split()[0] for query in metering.captured_queries]


def test_a_warm_call(account, model):
    call(account.key)
    authenticating, metering = call(account.key)

    assert authenticating == 0
    assert metering == ["WITH", "WITH"]
    assert Request.objects.filter(status="success").count() == 2
    assert account.usage()["llm.tokens"] == (14, 0)


def test_a_warm_call_asks_redis_once(account, model, monkeypatch):
    call(account.key)
    ask, asked = Redis.execute_command, []

    def noting(client, *words, **options):
        asked.append(words[0])
        return ask(client, *words, **options)

    monkeypatch.setattr(Redis, "execute_command", noting)
    call(account.key)

    assert asked == ["EVALSHA"]


def test_a_budget_of_the_key_costs_no_statement_more(account, model):
    call(account.key)
    key = ApiKey.objects.get(user=account.user)
    budget = QuotaFactory(user=account.user, api_key=key, unit="tokens", period="day", limit=10**6)
    authenticating, metering = call(account.key)

    assert authenticating == 0
    assert metering == ["WITH", "WITH"]
    budget.refresh_from_db()
    assert (budget.current_usage, budget.held) == (7, 0)


def test_a_prompt_costs_one_statement_more_and_another_one_once(account, model):
    a_template(account.user, "part", name="part")
    a_template(account.user, "{{> part }}", name="whole")
    call(account.key)
    forget_versions()

    first, second = (call(account.key, prompt={"name": "whole"}) for _ in range(2))

    assert first == (0, ["WITH", "SELECT", "WITH", "WITH"])
    assert second == (0, ["WITH", "WITH", "WITH"])


def test_an_idempotency_key_costs_two_statements_more(account, model):
    call(account.key)
    authenticating, metering = call(account.key, idempotency_key="k")

    assert authenticating == 0
    assert metering == ["BEGIN", "INSERT", "WITH", "COMMIT", "BEGIN", "WITH", "UPDATE", "COMMIT"]
    assert bytes(IdempotencyRecord.objects.get().body) == b"Hello!"


def test_a_warm_call_that_is_kept_in_a_conversation_still_has_two_commits(account, model):
    conversation = Conversation.objects.create(user=account.user)
    call(account.key)
    authenticating, metering = call(account.key, conversation_id=str(conversation.pk))

    assert authenticating == 0
    assert metering.count("COMMIT") == metering.count("BEGIN") == 2
    assert "SAVEPOINT" not in metering
    assert len(metering) <= 14
    assert conversation.messages.count() == 2
