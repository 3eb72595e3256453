"""POST /api/v1/prompts/classify: the answer, what it is charged, and what it does when things are missing."""

import socket

import pytest
from asgiref.sync import async_to_sync
from django.db.models.functions import Now
from django.test import AsyncClient
from django.test.client import AsyncClientHandler

from accounts.tests.credentials import access_token
from inference import upstream
from inference.exceptions import UpstreamError
from inference.models import Model, Provider, Request
from inference.stub import StubServer, answers
from prompts.intents import classification, patterns
from prompts.models import IntentPattern
from prompts.tests.intents import caller_of, make_patterns, strange_vector, train, vector
from quotas.models import IdempotencyRecord, Quota
from quotas.tests.factories import QuotaFactory

PATH = "/api/v1/prompts/classify"

LOADED = AsyncClientHandler(enforce_csrf_checks=True)

pytestmark = pytest.mark.django_db(transaction=True)

TEXTS = {
    "wake me up at seven": vector("alarm", 99),
    "play something loud": vector("music", 99),
    "blue ideas sleep furiously": strange_vector(),
    "أيقظني في السابعة": vector("alarm", 98),
    "short": [1.0, 2.0],
}


def ask(user, body, **headers):
    """As over HTTP; the client of model servers belongs to the event loop, and is closed with it."""
    client, headers = AsyncClient(), {"Authorization": f"Bearer {access_token(user)}", **headers}
    client.handler = LOADED

    async def asked():
        try:
            return await client.post(PATH, body, content_type="application/json", headers=headers)
        finally:
            await upstream.close_session()

    return async_to_sync(asked)()


@pytest.fixture
def trained(alice, monkeypatch, settings):
    """A classifier of three intents, and a model server that embeds a few texts as the test says."""
    settings.EMBEDDING_MODEL = "vectors"
    monkeypatch.setattr(answers, "vector_of", lambda item, dimensions=8: list(map(float, TEXTS[item])))
    with StubServer() as stub:
        provider = Provider.objects.create(name="stub", base_url=stub.base_url)
        Model.objects.create(name="vectors", upstream_name="vectors", provider=provider, kind="embedding")
        QuotaFactory(user=alice, unit="tokens", resource_type="embedding", limit=10_000)
        make_patterns()
        train()
        yield stub
    classification.forget()


def test_a_text_is_classified_and_charged_as_an_embedding(alice, trained):
    answer = ask(alice, {"text": "  wake me up at seven "}).json()

    assert (answer["intent"], answer["method"], answer["is_unknown"], answer["is_fallback"]) == (
        *("alarm", "blend"),
        *(False, False),
    )
    assert answer["confidence"] == answer["candidates"][0]["confidence"] > 0.5
    assert {row["intent"] for row in answer["nearest"]} == {"alarm"}
    assert answer["nearest"][0]["similarity"] >= answer["nearest"][-1]["similarity"] > 0.9
    request = Request.objects.get()
    assert (request.request_type, request.user, request.status) == ("embedding", alice, "success")
    assert request.response_data["intent"] == "alarm"
    assert Quota.objects.get(user=alice, unit="tokens", resource_type="embedding").current_usage == 20


def test_the_same_text_again_costs_nothing_until_a_pattern_changes(alice, trained):
    first = ask(alice, {"text": "wake me up at seven"}).json()
    assert ask(alice, {"text": "wake me up at seven"}).json() == first
    assert Request.objects.count() == 1

    IntentPattern.objects.filter(pk=IntentPattern.objects.first().pk).update(language="de", updated_at=Now())

    ask(alice, {"text": "wake me up at seven"})
    assert Request.objects.count() == 2


def test_what_is_like_nothing_is_unknown_and_other_scripts_are_read(alice, trained):
    strange = ask(alice, {"text": "blue ideas sleep furiously"}).json()
    arabic = ask(alice, {"text": "أيقظني في السابعة"}).json()

    assert (strange["intent"], strange["is_unknown"]) == ("unknown", True)
    assert strange["candidates"]
    assert arabic["intent"] == "alarm"


def test_a_new_pattern_and_a_correction_count_at_once(alice, olga, trained):
    added = patterns.add(intent="lights", text="play something loud", by=caller_of(olga))
    answer = ask(alice, {"text": "play something loud"}).json()
    assert (answer["intent"], answer["method"], answer["confidence"]) == ("lights", "example", 1.0)

    patterns.correct(pattern_id=added.pk, intent="weather", by=caller_of(olga))

    assert ask(alice, {"text": "play something loud"}).json()["intent"] == "weather"
    assert not Request.objects.exists()


def test_patterns_of_an_intent_that_was_not_learned_yet_count_by_nearness(alice, trained):
    for number in range(3):
        near = {"embedding": vector("music", 99, spread=0.1 + number / 100), "embedding_model": "vectors"}
        IntentPattern.objects.create(intent="dance", text=f"dance {number}", **near)
    IntentPattern.objects.filter(intent="music").update(is_active=False, updated_at=Now())

    answer = ask(alice, {"text": "play something loud"}).json()

    assert answer["candidates"][0]["intent"] == "dance" or answer["candidates"][1]["intent"] == "dance"
    assert answer["nearest"][0]["intent"] == "dance"


@pytest.mark.parametrize("trouble", ["down", "no model", "nonsense"])
def test_without_vectors_the_words_decide_and_the_answer_says_so(alice, trained, trouble):
    text = "short" if trouble == "nonsense" else "music please"
    if trouble == "down":
        Provider.objects.update(base_url="http://127.0.0.1:9/v1")
    if trouble == "no model":
        Model.objects.update(is_active=False)

    answer = ask(alice, {"text": text})

    assert answer.status_code == 200
    body = answer.json()
    assert (body["method"], body["is_fallback"], body["fallback_reason"]) == ("words", True, "embedding_unavailable")
    assert body["intent"] == ("unknown" if trouble == "nonsense" else "music")
    assert Quota.objects.get(user=alice, unit="tokens", resource_type="embedding").current_usage == 0
    assert set(Request.objects.values_list("status", flat=True)) <= {"error"}


def test_a_used_up_quota_refuses(alice, trained):
    Quota.objects.filter(user=alice, resource_type="embedding").update(current_usage=10_000)

    answer = ask(alice, {"text": "wake me up at seven"})

    assert (answer.status_code, answer.json()["error"]["type"]) == (429, "insufficient_quota")


def test_an_idempotency_key_answers_again_and_charges_once(alice, trained, redis_away):
    key = {"Idempotency-Key": "k"}
    first = ask(alice, {"text": "wake me up at seven"}, **key)
    again = ask(alice, {"text": "wake me up at seven"}, **key)

    assert first.json() == again.json()
    assert first.json()["intent"] == "alarm"
    assert Request.objects.count() == 1


@pytest.mark.parametrize("kept", ["cached", "pattern"])
def test_a_key_comes_before_answers_that_need_no_call(alice, olga, trained, kept):
    text, other, key = "wake me up at seven", "play something loud", {"Idempotency-Key": "k"}
    if kept == "cached":
        ask(alice, {"text": text})
    else:
        patterns.add(intent="lights", text=text, by=caller_of(olga))
    calls = Request.objects.count()

    first = ask(alice, {"text": text}, **key)
    IntentPattern.objects.all().delete()
    again = ask(alice, {"text": text}, **key)

    assert (again.content, again.headers["Idempotent-Replayed"]) == (first.content, "true")
    assert "Idempotent-Replayed" not in first.headers
    patterns.add(intent="lights", text=other, by=caller_of(olga))
    assert ask(alice, {"text": other}, **key).json()["error"]["code"] == "idempotency_key_reused"
    assert ask(alice, {"text": other}, **{"Idempotency-Key": "k" * 300}).status_code == 400
    assert Request.objects.count() == calls


@pytest.mark.parametrize("key", [{}, {"Idempotency-Key": "k"}])
def test_who_waits_too_long_for_a_vector_gets_the_answer_of_the_words(alice, trained, settings, key):
    settings.EMBEDDING_SECONDS = 0.2
    with socket.create_server(("127.0.0.1", 0)) as silent:
        Provider.objects.update(base_url=f"http://127.0.0.1:{silent.getsockname()[1]}/v1")
        answer = ask(alice, {"text": "music please"}, **key).json()

    assert (answer["intent"], answer["fallback_reason"]) == ("music", "embedding_unavailable")
    request = Request.objects.get()
    assert (request.status, request.error_code) == ("error", "deadline")
    assert request.processing_time < 2000
    quota = Quota.objects.get(user=alice, unit="tokens", resource_type="embedding")
    assert (quota.current_usage, quota.held) == (0, 0)
    assert not IdempotencyRecord.objects.exists()


def test_before_anything_is_trained_the_starter_set_answers_by_words(alice):
    answer = ask(alice, {"text": "translate this letter into German"}).json()

    assert (answer["intent"], answer["fallback_reason"], answer["classifier_version"]) == (
        "translating",
        "not_trained",
        None,
    )
    assert ask(alice, {"text": "xyzzy"}).json()["intent"] == "unknown"
    assert not Request.objects.exists()


def test_what_is_no_text_is_refused(alice):
    refused = {
        "invalid_type": [{}, {"text": ["a"]}, []],
        "blank": [{"text": ""}, {"text": " \n"}, {"text": "\u200b\ufeff\u2060 \u200d\ufe0f\u034f\u3164"}],
        "too_long": [{"text": "x" * 1_000_000}],
        "nul_character": [{"text": "a\0b"}],
        "invalid_json": [b"\xff\xfe\x00binary"],
    }
    for code, bodies in refused.items():
        for body in bodies:
            answer = ask(alice, body)
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)


def test_a_reply_of_the_wrong_size_is_no_vector():
    with pytest.raises(UpstreamError):
        classification.one_vector({"data": [{"embedding": [0.1] * 8}]})
