"""POST /api/v1/prompts/enhance: what it makes of a prompt, with and without a model, and what it refuses."""

from dataclasses import replace

import orjson
import pytest
from django.db import connection
from django.db.models import F
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import resolve

from accounts.erasing import erase_user
from accounts.tests.credentials import access_token
from inference.models import Model, Provider, Request
from inference.services import Status, Usage
from inference.stub import StubServer, answers
from prompts import enhance_views, techniques
from prompts.enhance.drafting import draft, intent_as_given
from prompts.enhance.rewriting import open_rewriting
from prompts.enhance.wishes import Wish
from prompts.intents import classification
from prompts.models import PromptHistory, Technique, TechniqueEffectiveness
from prompts.tests.enhance import PATH, ask
from prompts.tests.intents import caller_of, make_patterns, train, vector
from quotas.models import Quota, Reservation
from quotas.tests.factories import QuotaFactory

pytestmark = pytest.mark.django_db(transaction=True)

LETTER = "translate this letter into German"
REWRITTEN = {"prompt": "Hello", "intent": "alarm", "use_llm": True, "model": "writer"}


def enhanced(user, status=200, **body):
    answer, content = ask(user, body)
    assert answer.status_code == status, content
    return orjson.loads(content)


@pytest.fixture
def server(alice, monkeypatch, settings):
    """A classifier that has learned, and a model server for vectors and texts."""
    settings.EMBEDDING_MODEL = "vectors"
    monkeypatch.setattr(answers, "vector_of", lambda item, dimensions=8: list(map(float, vector("alarm", 99))))
    with StubServer() as stub:
        provider = Provider.objects.create(name="stub", base_url=stub.base_url)
        Model.objects.create(name="vectors", upstream_name="vectors", provider=provider, kind="embedding")
        Model.objects.create(name="writer", upstream_name="instant", provider=provider)
        for kind in ("embedding", "llm"):
            QuotaFactory(user=alice, unit="tokens", resource_type=kind, limit=100_000)
        make_patterns()
        train()
        yield stub
    classification.forget()


# Without a model -----------------------------------------------------------------------------------------------------


def test_a_prompt_is_improved_with_no_model_server_at_all(alice):
    answer = enhanced(alice, prompt=f"  {LETTER}\n", seed=7)

    assert (answer["original"], answer["intent"], answer["method"]) == (f"  {LETTER}\n", "translating", "words")
    assert LETTER in answer["enhanced"] != LETTER
    assert answer["techniques"]
    for technique in answer["techniques"]:
        assert technique["version"] == 1
        assert "translating prompts, not judged yet; drawn 0." in technique["reason"]
        assert 0 < technique["score"] < 1
    assert (answer["model"], answer["usage"], answer["seed"]) == (None, None, 7)
    row = PromptHistory.objects.get()
    assert (str(row.pk), row.user, row.enhanced, row.techniques) == (
        *(answer["id"], alice),
        *(answer["enhanced"], answer["techniques"]),
    )
    shown = TechniqueEffectiveness.objects.filter(intent="translating", shown=1).values_list(
        "technique__slug", flat=True
    )
    assert set(shown) == {technique["name"] for technique in answer["techniques"]}
    assert not Request.objects.exists()


def test_a_seed_draws_the_same_again_and_another_one_something_else(alice):
    def names(seed):
        return tuple(one["name"] for one in enhanced(alice, text=LETTER, seed=seed)["techniques"])

    assert names(7) == names(7)
    assert len({names(seed) for seed in range(6)}) > 2
    assert all(len(names(seed)) <= 3 for seed in range(6))


def test_named_techniques_are_applied_in_their_order_with_parameters(alice):
    answer = enhanced(
        alice,
        prompt="Sort these names",
        intent="code",
        techniques=["role", "structured_output", "role"],
        parameters={"role": {"role": "a librarian"}, "structured_output": {"format": "CSV"}},
    )

    assert [one["name"] for one in answer["techniques"]] == ["structured_output", "role"]
    assert {(one["reason"], one["score"]) for one in answer["techniques"]} == {("named by the caller", None)}
    text = answer["enhanced"]
    assert text.startswith("You are a librarian.")
    assert text.index("librarian") < text.index("Sort these names") < text.index("Answer with CSV")
    assert (answer["intent"], answer["method"], answer["seed"]) == ("code", "given", None)


def test_texts_of_any_script_stay_as_they_are_and_run_nothing(alice):
    for prompt in ("أيقظني في السابعة \u202eמחר\u202c", "{{ x.__class__ }} {% now %} \\{{ {{prompt}}", "👩‍🚀" * 500):
        answer = enhanced(alice, prompt=prompt, techniques=["delimiters_and_context"])
        assert prompt in answer["enhanced"]
        assert PromptHistory.objects.latest("id").original == prompt


def test_a_new_version_counts_at_once_and_the_old_one_stays_with_what_it_made(alice, olga):
    before = enhanced(alice, prompt="Hello", techniques=["role"])
    technique = Technique.objects.get(slug="role")
    techniques.change_technique(technique_id=technique.pk, template="Be kind. {{ prompt }}", by=caller_of(olga))

    after = enhanced(alice, prompt="Hello", techniques=["role"])

    assert (before["techniques"][0]["version"], after["techniques"][0]["version"]) == (1, 2)
    assert after["enhanced"] == "Be kind. Hello"
    assert before["enhanced"].startswith("You are an expert")
    assert set(technique.versions.values_list("number", flat=True)) == {1, 2}


BAD = [
    ({}, "invalid_type", "prompt"),
    ({"prompt": ["a"]}, "invalid_type", "prompt"),
    ({"prompt": " \n\t"}, "blank", "prompt"),
    ({"text": ""}, "blank", "text"),
    ({"prompt": "a", "text": "b"}, "prompt_and_text", "text"),
    ({"prompt": "x" * 1_000_000}, "too_long", "prompt"),
    ({"prompt": "a\0b"}, "nul_character", None),
    (b'{"prompt": "\\ud800"}', "invalid_json", None),
    (b"\xff\xfe\x00binary", "invalid_json", None),
    ({"prompt": "a", "techniques": "role"}, "invalid_type", "techniques"),
    ({"prompt": "a", "techniques": ["role", "magic"]}, "unknown_technique", "techniques.1"),
    ({"prompt": "a", "techniques": ["off"]}, "unknown_technique", "techniques.0"),
    ({"prompt": "a", "techniques": ["react", "role", "chain_of_thought"]}, "exclusive_techniques", "techniques.2"),
    ({"prompt": "a", "techniques": ["a"] * 7}, "too_many", "techniques"),
    ({"prompt": "a", "parameters": {"role": "x"}}, "invalid_type", "parameters"),
    ({"prompt": "a", "parameters": {"magic": {}}}, "unknown_technique", "parameters.magic"),
    ({"prompt": "a", "techniques": ["role"], "parameters": {"react": {}}}, "unknown_technique", "parameters.react"),
    (
        {"prompt": "a", "techniques": ["role"], "parameters": {"role": {"rolle": "x"}}},
        *("unknown_variable", "parameters.role.rolle"),
    ),
    (
        {"prompt": "a", "techniques": ["role"], "parameters": {"role": {"prompt": "x"}}},
        *("unknown_variable", "parameters.role.prompt"),
    ),
    (
        {"prompt": "a", "techniques": ["self_consistency"], "parameters": {"self_consistency": {"paths": "x"}}},
        *("invalid_type", "parameters.self_consistency.paths"),
    ),
    ({"prompt": "a", "intent": "witchcraft"}, "unknown_intent", "intent"),
    ({"prompt": "a", "intent": "No Name"}, "unknown_intent", "intent"),
    ({"prompt": "a", "max_techniques": 0}, "invalid_type", "max_techniques"),
    ({"prompt": "a", "seed": -1}, "invalid_type", "seed"),
    ({"prompt": "a", "seed": True}, "invalid_type", "seed"),
    ({"prompt": "a", "use_llm": "yes"}, "invalid_type", "use_llm"),
    ({"prompt": "a", "stream": True}, "invalid_value", "stream"),
    ({"prompt": "a", "use_llm": True}, "required", "model"),
    ({"prompt": "a", "technique": ["role"]}, "unknown_field", "technique"),
    ({"prompt": "a", "parameters": {"few_shot": {"examples": "x" * 50_001}}}, "too_long", "parameters"),
    (
        {"prompt": "a", "techniques": ["twice"], "parameters": {"twice": {"x": "y" * 49_000}}},
        *("too_long", "parameters.twice"),
    ),
    (
        {"prompt": "a", "techniques": ["many"], "parameters": {"many": {"x": "y" * 49_000}}},
        *("too_long", "parameters.many"),
    ),
]


def test_what_makes_no_sense_is_refused_and_leaves_nothing(alice, olga):
    Technique.objects.create(slug="off", title="Off", is_active=False)
    for slug, times in (("twice", 5), ("many", 30)):
        techniques.add_technique(
            by=caller_of(olga),
            slug=slug,
            title=slug,
            template="{{ prompt }}" + "{{ x }}" * times,
            parameters=[{"name": "x", "required": False}],
        )
    for body, code, param in BAD:
        answer, content = ask(alice, body)
        error = orjson.loads(content)["error"]
        assert (answer.status_code, error["code"], error["param"]) == (400, code, param), body
    assert not PromptHistory.objects.exists()
    assert not TechniqueEffectiveness.objects.exists()


def test_a_key_of_the_caller_gives_the_same_answer_again(alice):
    key = {"Idempotency-Key": "k"}
    first, again = (ask(alice, {"prompt": LETTER}, **key) for _ in range(2))

    assert first[1] == again[1]
    assert again[0].headers["Idempotent-Replayed"] == "true"
    assert PromptHistory.objects.count() == 1
    other, content = ask(alice, {"prompt": "Another one"}, **key)
    assert (other.status_code, orjson.loads(content)["error"]["code"]) == (422, "idempotency_key_reused")


def test_a_call_takes_few_statements(alice, server):
    """Three to know the intent and the techniques, two that are written together."""
    enhanced(alice, prompt="wake me up", intent="alarm")
    ask(alice, {"prompt": "wake me up"})
    request = RequestFactory().post(
        PATH, {"prompt": "wake me up"}, "application/json", headers={"Authorization": f"Bearer {access_token(alice)}"}
    )
    request.resolver_match = resolve(PATH)
    with CaptureQueriesContext(connection):  # authenticates
        enhance_views._asked(request)
    with CaptureQueriesContext(connection) as captured:
        asked = enhance_views._asked(request)
        enhance_views._enhanced(asked, asked.found)

    words = [query["sql"].split()[0] for query in captured.captured_queries]
    assert words == ["SELECT", "SELECT", "SELECT", "BEGIN", "INSERT", "INSERT", "COMMIT"]


# The intent ----------------------------------------------------------------------------------------------------------


def test_a_text_that_is_not_known_yet_is_embedded_once(alice, server):
    first, second = (enhanced(alice, prompt="wake me at seven") for _ in range(2))

    assert (first["intent"], first["method"], first["is_fallback"]) == ("alarm", "blend", False)
    assert second["confidence"] == first["confidence"]
    assert Request.objects.get().request_type == "embedding"
    assert PromptHistory.objects.count() == 2


@pytest.mark.parametrize("trouble", ["down", "no model", "no quota", "no redis"])
def test_without_vectors_the_words_decide_and_nothing_is_lost(alice, server, trouble, request):
    if trouble == "down":
        Provider.objects.update(base_url="http://127.0.0.1:9/v1")
    if trouble == "no model":
        Model.objects.update(is_active=False)
    if trouble == "no quota":
        Quota.objects.filter(user=alice, resource_type="embedding").update(current_usage=F("limit"))
    if trouble == "no redis":
        request.getfixturevalue("redis_away")

    answer = enhanced(alice, prompt="music please")

    reason = {"no quota": "quota_exceeded", "no redis": None}.get(trouble, "embedding_unavailable")
    assert answer["fallback_reason"] == reason
    if trouble == "no redis":
        # By the vector, which says alarm, while the words say music: that may be too little to be sure.
        assert (answer["method"], answer["intent"] != "music") == ("blend", True)
    else:
        assert (answer["method"], answer["intent"]) == ("words", "music")
    assert PromptHistory.objects.get().enhanced == answer["enhanced"]
    assert Reservation.objects.filter(status="held").count() == 0


# With a model --------------------------------------------------------------------------------------------------------


def test_a_model_rewrites_and_is_charged_beside_the_history(alice, server):
    answer = enhanced(
        alice, prompt="wake me at seven", intent="alarm", techniques=["role"], use_llm=True, model="writer"
    )

    assert answer["enhanced"] == answers.TEXT.strip()
    assert (answer["model"], answer["usage"]["total_tokens"]) == (
        "writer",
        answers.INPUT_TOKENS + answers.OUTPUT_TOKENS,
    )
    row = PromptHistory.objects.get()
    assert (str(row.pk), row.model, row.enhanced) == (answer["id"], "writer", answer["enhanced"])
    assert (row.request.request_type, row.request.status) == ("llm", "success")
    sent = row.request.request_data["messages"]
    assert "wake me at seven" in sent[1]["content"]
    assert "You are an expert" in sent[1]["content"]
    assert (
        Quota.objects.get(user=alice, resource_type="llm", unit="tokens").current_usage
        == answer["usage"]["total_tokens"]
    )


def test_the_preferred_model_writes_where_none_is_named(alice, server):
    alice.preferred_model = "writer"
    alice.save(update_fields=["preferred_model"])

    assert enhanced(alice, prompt="Hello", intent="alarm", use_llm=True)["model"] == "writer"


def test_a_stream_begins_with_what_is_known_and_goes_on_as_a_chat_does(alice, server):
    body = {
        "prompt": "Hello",
        "intent": "alarm",
        "techniques": ["role"],
        "use_llm": True,
        "model": "writer",
        "stream": True,
    }
    key = {"Idempotency-Key": "s"}
    answer, content = ask(alice, body, **key)

    assert answer.headers["Content-Type"] == "text/event-stream"
    first, *events = content.decode().strip().split("\n\n")
    name, data = first.split("\n")
    head = orjson.loads(data.removeprefix("data: "))
    assert (name, head["model"], [one["name"] for one in head["techniques"]]) == (
        "event: enhancement",
        "writer",
        ["role"],
    )
    assert events[-1] == "data: [DONE]"
    chunks = [orjson.loads(event.removeprefix("data: ")) for event in events[:-1]]
    text = "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])
    row = PromptHistory.objects.get()
    assert (str(row.pk), row.enhanced, row.request.is_stream) == (head["id"], text.strip(), True)

    again, same = ask(alice, body, **key)
    assert (again.headers["Idempotent-Replayed"], same) == ("true", content)
    assert Request.objects.count() == 1


def test_who_leaves_a_stream_keeps_and_pays_for_what_was_delivered(alice, server):
    Model.objects.filter(name="writer").update(upstream_name="paced-20")
    body = {**REWRITTEN, "stream": True}

    _answer, content = ask(alice, body, parts=3)

    row = PromptHistory.objects.get()
    assert answers.TEXT.startswith(row.enhanced)
    assert row.enhanced.split()[0].encode() in content
    assert (row.request.status, row.request.error_code) == ("cancelled", "client_disconnected")


def test_of_a_model_that_fails_in_the_middle_nothing_is_kept(alice, server):
    Model.objects.filter(name="writer").update(upstream_name="early-end")

    _answer, content = ask(alice, {**REWRITTEN, "stream": True})

    assert b'"delta":{"content"' in content.replace(b" ", b"")
    request = Request.objects.get()
    assert (request.status, request.output_tokens > 0) == ("error", True)
    assert not PromptHistory.objects.exists()
    assert not TechniqueEffectiveness.objects.exists()


def test_what_is_written_for_somebody_who_was_erased_meanwhile_is_not_kept(alice, olga, server):
    made = draft(Wish(prompt="Hello", parameters={}), intent_as_given("alarm"))
    opened = open_rewriting(caller=caller_of(alice), draft=replace(made, wish=replace(made.wish, model="writer")))
    outcome = opened.call.outcome
    outcome.status, outcome.usage, outcome.text = Status.SUCCESS, Usage.REPORTED, "Hello, you!"
    erase_user(user_id=alice.pk, by=olga)

    opened.settle()

    assert not PromptHistory.objects.exists()
    assert Request.objects.get().error_code == "user_erased"
    assert not Reservation.objects.filter(status="held").exists()


def test_a_whole_answer_of_a_model_is_repeated_under_its_key(alice, server):
    first, again = (ask(alice, REWRITTEN, **{"Idempotency-Key": "w"})[1] for _ in range(2))

    assert first == again
    assert orjson.loads(first)["enhanced"] == answers.TEXT.strip()
    assert (Request.objects.count(), PromptHistory.objects.count()) == (1, 1)


@pytest.mark.parametrize(("trouble", "status"), [("down", 502), ("gone", 404), ("silent", 502), ("quota", 429)])
def test_a_model_that_writes_nothing_costs_nothing_and_leaves_no_history(alice, server, trouble, status):
    if trouble == "down":
        Provider.objects.update(base_url="http://127.0.0.1:9/v1")
    if trouble == "quota":
        Quota.objects.filter(user=alice, resource_type="llm").update(current_usage=F("limit"))
    if trouble == "silent":
        Model.objects.filter(name="writer").update(upstream_name="tools")
    model = "none" if trouble == "gone" else "writer"

    answer, _content = ask(alice, {**REWRITTEN, "model": model}, **{"Idempotency-Key": "f"})

    assert answer.status_code == status
    assert not PromptHistory.objects.exists()
    assert not Reservation.objects.filter(status="held").exists()
    if trouble == "down":
        Provider.objects.update(base_url=server.base_url)
