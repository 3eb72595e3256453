"""GET /api/v1/prompts/search and POST …/suggestions: modes, pages, what they cost, and what they do without vectors."""

import math
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.tests.credentials import api_key
from inference.models import Model, Provider, Request
from inference.routes import forget_routes
from inference.stub import StubServer, answers
from prompts.models import DocumentEmbedding, EmbeddingModel, SavedPrompt
from prompts.search import finding, vectors
from prompts.search.finding import Asked, Meaning, find
from prompts.search.modes import Mode
from prompts.tasks import tend_search
from prompts.tests.searching import SUGGESTIONS, document, embed_all, saved, search, titles, vector_of
from quotas.models import Quota
from quotas.tests.factories import QuotaFactory

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def embedding(alice, monkeypatch, settings):
    """A model server by which words that mean the same are near each other, and a quota for it."""
    settings.EMBEDDING_MODEL = "vectors"
    monkeypatch.setattr(answers, "vector_of", vector_of)
    with StubServer() as stub:
        provider = Provider.objects.create(name="stub", base_url=stub.base_url)
        Model.objects.create(name="vectors", upstream_name="vectors", provider=provider, kind="embedding")
        QuotaFactory(user=alice, unit="tokens", resource_type="embedding", limit=10_000)
        yield stub


def move_server(base_url):
    Provider.objects.update(base_url=base_url)
    forget_routes()


@pytest.fixture
def library(alice, bob, embedding):
    saved(alice, "Answer to a customer", "Please reimburse the customer")
    saved(alice, "Valentine", "Write a verse with rhyme")
    saved(alice, "Support", "The app shows a traceback after the refund")
    saved(bob, "Hidden", "refund money reimburse")
    saved(bob, "Open", "money for everybody", is_shared=True, is_open=True)
    embed_all()


def test_hybrid_finds_words_first_and_then_what_means_the_same(alice, library):
    answer = search(alice, q="refund")
    assert titles(answer)[0] == "Support"
    assert set(titles(answer)[1:3]) == {"Open", "Answer to a customer"}
    assert "Hidden" not in titles(answer)
    body = answer.json()
    assert (body["mode_used"], body["reason"], body["next"], body["previous"]) == ("hybrid", None, None, None)
    first, second = body["results"][0], next(row for row in body["results"] if row["title"] == "Open")
    assert first["highlight"]["text"] == "The app shows a traceback after the <mark>refund</mark>"
    assert (first["is_own"], second["is_own"], second["is_shared"]) == (True, False, True)

    assert titles(search(alice, q="refund", mode="text")) == ["Support"]
    assert set(titles(search(alice, q="refund", mode="semantic"))[:2]) == {"Open", "Answer to a customer"}


def test_a_question_is_charged_once_an_hour_and_by_words_never(alice, bob, library):
    before = Request.objects.count()
    quota = Quota.objects.filter(user=alice, resource_type="embedding", unit="tokens")
    for mode in ("hybrid", "semantic", "hybrid", "text"):
        search(alice, q="refund", mode=mode)
    assert Request.objects.count() == before + 1
    assert quota.get().current_usage == 20
    request = Request.objects.filter(user=alice).get()
    assert (request.request_type, request.status, request.response_data) == ("embedding", "success", {"found": 4})

    # Nobody learns for nothing what others have asked.
    QuotaFactory(user=bob, unit="tokens", resource_type="embedding", limit=10_000)
    search(bob, q="refund")
    assert Request.objects.filter(user=bob).count() == 1


@pytest.mark.parametrize("trouble", ["down", "frozen", "no model", "nothing embedded", "no quota"])
def test_without_vectors_hybrid_goes_by_words_and_says_so(alice, library, settings, request, trouble):
    settings.EMBEDDING_SECONDS = 0.2
    if trouble == "down":
        move_server("http://127.0.0.1:9/v1")
    if trouble == "frozen":
        silent = socket.create_server(("127.0.0.1", 0))
        request.addfinalizer(silent.close)
        move_server(f"http://127.0.0.1:{silent.getsockname()[1]}/v1")
    if trouble == "no model":
        Model.objects.update(is_active=False)
        forget_routes()
    if trouble == "nothing embedded":
        EmbeddingModel.objects.all().delete()
    if trouble == "no quota":
        Quota.objects.filter(user=alice, resource_type="embedding", unit="tokens").update(current_usage=10_000)

    answer = search(alice, q="traceback")
    assert titles(answer) == ["Support"]
    reasons = {"nothing embedded": "not_embedded", "no quota": "quota_exceeded"}
    reason = reasons.get(trouble, "embedding_unavailable")
    assert (answer.json()["mode_used"], answer.json()["reason"]) == ("text", reason)
    refused = search(alice, q="traceback", mode="semantic")
    expected = (429, "insufficient_quota") if trouble == "no quota" else (503, "embedding_unavailable")
    assert (refused.status_code, refused.json()["error"]["code"]) == expected
    drafted = search(alice, SUGGESTIONS, {"text": "What does this traceback tell me"})
    assert (titles(drafted), drafted.json()["mode_used"], drafted.json()["reason"]) == (["Support"], "text", reason)
    calls = Request.objects.filter(user=alice)
    assert all(call.processing_time < 2000 and call.status == "error" for call in calls)


def test_a_server_that_is_down_loses_no_vector(alice, embedding):
    move_server("http://127.0.0.1:9/v1")
    prompt = saved(alice, "Late", "refund")
    tend_search()
    assert DocumentEmbedding.objects.waiting().filter(claimed_until=None).count() == 1

    move_server(embedding.base_url)
    tend_search()
    row = document(prompt).embeddings.get()
    assert math.isclose(sum(number**2 for number in row.embedding), 1, rel_tol=0.01)


def test_a_change_while_its_old_text_is_embedded_is_embedded_after_it(alice, embedding, monkeypatch):
    prompt = saved(alice, "Moving", "refund")
    model = vectors.active_model()

    def meanwhile(item, size=8):
        if "poem" not in item:
            with ThreadPoolExecutor(1) as elsewhere:
                elsewhere.submit(change).result()
        return vector_of(item, size)

    def change():
        SavedPrompt.objects.filter(pk=prompt.pk).update(content="poem")
        connection.close()

    monkeypatch.setattr(answers, "vector_of", meanwhile)
    assert vectors.embed_some(model) == 1
    assert DocumentEmbedding.objects.waiting().count() == 1
    assert vectors.embed_some(model) == 1
    assert document(prompt).embeddings.get().embedding[1] > 0.9


def test_pages_hold_everything_once_in_the_mode_of_the_first(alice, embedding):
    for number in range(7):
        saved(alice, f"Refund {number}", "refund" if number % 2 else "money")
    embed_all()
    for mode in Mode:
        whole = titles(search(alice, q="refund", mode=mode))
        seen = pages(alice, q="refund", mode=mode, limit=3)
        assert seen == whole
        assert len(seen) == 7

    move_server("http://127.0.0.1:9/v1")
    first = search(alice, q="refund 1 or 2 or 3", limit=1).json()
    move_server(embedding.base_url)
    second = search(alice, first["next"].removeprefix("http://testserver")).json()
    assert [page["mode_used"] for page in (first, second)] == ["text", "text"]
    assert second["reason"] == "embedding_unavailable"


def pages(user, **query):
    """What all pages of a search hold."""
    answer, seen = search(user, **query), []
    while True:
        seen += titles(answer)
        if answer.json()["next"] is None:
            return seen
        answer = search(user, answer.json()["next"].removeprefix("http://testserver"))


def test_hybrid_reaches_as_deep_by_words_as_text_does(alice, embedding, monkeypatch):
    """Of these, two are among the nearest; the others are found by their word alone, which most have as often."""
    monkeypatch.setattr(finding, "DEPTH", 2)
    monkeypatch.setattr(finding, "MOST_BY_TEXT", 9)
    for number in range(10):
        saved(alice, f"Number {number}", "traceback" if number < 8 else "traceback and some more words")
    embed_all()

    by_text = pages(alice, q="traceback", mode="text", limit=4)

    assert len(set(by_text)) == len(by_text) == 9
    found = pages(alice, q="traceback", limit=4)
    assert set(found) >= set(by_text)
    assert len(found) == len(set(found))


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("excluding", ["-tracebacks", "or -traceback", '- "a traceback"', "-traceback -nothing"])
def test_what_is_excluded_is_excluded_by_meaning_too(alice, library, mode, excluding):
    saved(alice, "Harmless", "A refund")
    embed_all()

    found = titles(search(alice, q=f"refund {excluding}", mode=mode))

    assert "Harmless" in found
    assert "Support" not in found
    # What stands in a phrase excludes nothing.
    assert "Support" in titles(search(alice, q='refund or "-refund"', mode=mode))


def test_a_cursor_is_good_for_its_own_search_alone(alice, bob, embedding):
    for number in range(3):
        saved(alice, f"Refund {number}", is_shared=True, is_open=True)
    cursor = search(alice, q="refund", mode="text", limit=1).json()["next"].partition("cursor=")[2].partition("&")[0]

    for who, query in ((alice, {"q": "money"}), (bob, {"q": "refund"}), (alice, {"q": "refund", "kind": "saved"})):
        assert search(who, mode="text", cursor=cursor, **query).status_code == 404
    for cursor in ("made up", "a:b:c"):
        refused = search(alice, q="refund", mode="text", cursor=cursor)
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "invalid_cursor")


def test_what_is_marked_is_safe_to_show(alice):
    saved(alice, "<img src=x>", "<script>alert('refund')</script> \ue000<b>\ue001 & more")

    row = search(alice, q="refund or img", mode="text").json()["results"][0]

    assert row["highlight"] == {
        "title": "&lt;<mark>img</mark> src=x&gt;",
        # It begins at the first word.
        "text": "script&gt;alert(&#x27;<mark>refund</mark>&#x27;)&lt;/script&gt; &lt;b&gt; &amp; more",
    }


def test_a_draft_gets_what_is_like_it_and_a_repeated_call_the_same_answer(alice, bob, library):
    draft, key = {"text": "I want my money back, please reimburse me", "limit": 2}, {"Idempotency-Key": "k"}
    first = search(alice, SUGGESTIONS, draft, key)
    assert set(titles(first)) == {"Answer to a customer", "Open"}
    assert first.json()["results"][0]["similarity"] > 0.5
    assert set(first.json()) == {"mode_used", "reason", "results"}
    count = Request.objects.count()

    saved(alice, "New", "money reimburse")
    assert search(alice, SUGGESTIONS, draft, key).json() == first.json()
    assert Request.objects.count() == count
    assert "Hidden" not in titles(search(alice, SUGGESTIONS, draft | {"limit": 20}))


def test_a_key_of_an_operator_searches_as_the_person_it_names(alice, bob, olga, library):
    key, as_bob = api_key(olga, scopes=["prompts", "act-as"]), {"X-On-Behalf-Of": str(bob.pk)}

    answer = search(olga, q="refund", mode="text", headers=as_bob | {"Authorization": f"Bearer {key}"})

    assert titles(answer) == ["Hidden"]


@pytest.mark.parametrize(
    ("code", "query"),
    [
        ("required", {}),
        ("blank", {"q": " "}),
        ("max_length", {"q": "x" * 1_000_000}),
        ("null_characters_not_allowed", {"q": "a\0b"}),
        ("invalid_choice", {"q": "x", "mode": "magic"}),
        ("invalid_choice", {"q": "x", "kind": "user"}),
        ("invalid", {"q": "x", "collection": "1"}),
        ("invalid", {"q": "x", "created_after": "yesterday"}),
        ("max_value", {"q": "x", "limit": 101}),
    ],
)
def test_what_makes_no_sense_is_refused(alice, code, query):
    answer = search(alice, **query)

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)


def test_operators_alone_and_strange_texts_find_nothing(alice):
    saved(alice, "Title")
    for text in ('"', "- -", "&|!():*<->", "\N{RIGHT-TO-LEFT OVERRIDE}", "\N{PILE OF POO}" * 300, "or or or", "\\'"):
        assert titles(search(alice, q=text, mode="text")) == []
    for body in ([], {}, {"text": 7 * [1]}, {"text": " "}, {"text": "x" * 1_000_000}, {"text": "a\0b"}):
        assert search(alice, SUGGESTIONS, body).status_code == 400


# Ranking ---------------------------------------------------------------------------------------------------------


def test_ranks_are_fused_by_their_reciprocals(alice, library):
    model = EmbeddingModel.objects.get()
    meaning = Meaning(document(SavedPrompt.objects.get(title="Open")).embeddings.get().embedding, model)

    rows = find(Asked(alice.pk, "customer", Mode.HYBRID, 10), meaning)

    scores = {row["title"]: (row["text_place"], row["meaning_place"], row["score"]) for row in rows}
    assert scores["Open"] == (None, 1, pytest.approx(1 / 61))
    assert scores["Answer to a customer"] == (1, 2, pytest.approx(1.15 / 61 + 1 / 62))
    assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)


def test_a_search_costs_few_statements_and_finds_the_same_by_the_index(alice, library, monkeypatch):
    model = EmbeddingModel.objects.get()
    meaning = Meaning(document(SavedPrompt.objects.get(title="Open")).embeddings.get().embedding, model)
    asked = Asked(alice.pk, "refund", Mode.HYBRID, 10)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        exact = find(asked, meaning)
    # How much there is to see, with the settings of the walk; the ranking.
    assert len([query for query in queries if query["sql"].startswith(("SELECT", "\nWITH"))]) == 2

    monkeypatch.setattr(finding, "EXACT_UP_TO", 0)
    monkeypatch.setattr(finding, "DEPTH", 4)
    assert [row["title"] for row in find(asked, meaning)] == [row["title"] for row in exact]
    # More than there are: the walk ends early, and everything is looked at.
    monkeypatch.setattr(finding, "DEPTH", 100)
    assert [row["title"] for row in find(asked, meaning)] == [row["title"] for row in exact]
