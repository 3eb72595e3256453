"""manage.py reembed: another model in the place of the active one, while people search."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import StringIO

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from accounts.exceptions import Conflict
from inference.exceptions import UpstreamError
from inference.models import Model, Provider, Request
from inference.routes import forget_routes
from inference.stub import StubServer, answers
from prompts.management.commands import reembed as command
from prompts.models import DocumentEmbedding, EmbeddingModel, IntentClassifier, IntentPattern
from prompts.search import vectors
from prompts.search.finding import Asked, Meaning, find
from prompts.search.modes import Mode
from prompts.search.reembedding import LOCK, reembed
from prompts.tests.intents import make_patterns
from prompts.tests.searching import embed_all, saved, vector_of

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def models(alice, monkeypatch, settings):
    """Two models, of which the first is in use, and a few prompts and patterns with its vectors."""
    settings.EMBEDDING_MODEL = "vectors"
    monkeypatch.setattr(answers, "vector_of", lambda item, size=8: vector_of(item, size, current["model"]))
    monkeypatch.setattr(vectors, "BATCH", 2)
    current, plain = {}, answers.embeddings

    def embeddings(payload):
        current["model"] = payload["model"]
        return plain(payload)

    monkeypatch.setattr(answers, "embeddings", embeddings)
    with StubServer() as stub:
        provider = Provider.objects.create(name="stub", base_url=stub.base_url)
        for name in ("vectors", "other"):
            Model.objects.create(name=name, upstream_name=name, provider=provider, kind="embedding")
        for number, word in enumerate(("refund", "poem", "bug", "money", "verse")):
            saved(alice, f"Prompt {number}", word)
        embed_all()
        make_patterns(each=6)
        yield stub


def nearest(user, text="reimburse"):
    """As a search does now: by the vectors of the active model."""
    model = EmbeddingModel.objects.get(is_active=True)
    meaning = Meaning(np.array(vector_of(text, model=model.name), dtype=np.float32), model)
    return [row["title"] for row in find(Asked(user.pk, text, Mode.SEMANTIC, 2), meaning)][:2]


def test_searches_find_at_every_moment_what_they_found_before(alice, models):
    before, seen = nearest(alice), []
    assert set(before) == {"Prompt 0", "Prompt 3"}

    reembed("other", lambda *progress: seen.append((progress, set(nearest(alice)))))

    assert {frozenset(found) for _progress, found in seen} == {frozenset(before)}
    assert [progress for progress, _found in seen if progress[0] == "documents"] == [
        ("documents", done, 5) for done in (0, 2, 4, 5)
    ]
    assert set(nearest(alice)) == set(before)
    assert EmbeddingModel.objects.active_name() == "other"
    assert set(IntentPattern.objects.values_list("embedding_model", flat=True)) == {"other"}
    assert IntentClassifier.objects.get(is_active=True).embedding_model == "other"

    now = timezone.now()
    assert vectors.drop_replaced(now) == 0
    vectors.tend(now + timedelta(hours=1))
    assert DocumentEmbedding.objects.count() == 5
    assert set(nearest(alice)) == set(before)


def test_a_run_that_was_stopped_goes_on_where_it_was(alice, models):
    def stop(what, done, count):
        if done >= 2:
            # As a process that is killed leaves it.
            DocumentEmbedding.objects.waiting().update(claimed_until=timezone.now() + timedelta(minutes=9))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reembed("other", stop)
    assert EmbeddingModel.objects.active_name() == "vectors"
    first = dict(
        DocumentEmbedding.objects.filter(model__name="other").exclude(embedding=None).values_list("pk", "slot")
    )
    assert len(first) == 2
    saved(alice, "Meanwhile", "refund")
    calls = Request.objects.filter(model="other").count()

    reembed("other", lambda *progress: None)

    assert EmbeddingModel.objects.active_name() == "other"
    assert not DocumentEmbedding.objects.filter(model__name="other").waiting().exists()
    # Four documents in two calls, and eighteen patterns in nine.
    assert Request.objects.filter(model="other").count() == calls + 2 + 9


def test_a_server_that_is_down_changes_nothing_and_another_model_can_be_begun(alice, models):
    before = nearest(alice)
    Provider.objects.update(base_url="http://127.0.0.1:9/v1")
    forget_routes()
    with pytest.raises(UpstreamError):
        reembed("other", lambda *progress: None)
    assert nearest(alice) == before

    Provider.objects.update(base_url=models.base_url)
    Model.objects.filter(name="other").update(name="third")
    forget_routes()
    reembed("third", lambda *progress: None)
    assert list(EmbeddingModel.objects.values_list("name", "is_active")) == [("vectors", False), ("third", True)]
    # Back again, while the first is still there: nothing is embedded twice.
    calls = Request.objects.count()
    reembed("vectors", lambda *progress: None)
    assert Request.objects.count() == calls + 9
    assert set(nearest(alice)) == set(before)


def test_what_a_model_refuses_waits_a_day_and_holds_up_nothing_else(alice, models):
    refused = Model.objects.filter(name="vectors")
    refused.update(upstream_name="refuse-400")
    forget_routes()
    for number in range(2):
        saved(alice, f"Bad {number}", "refund")
    vectors.tend()
    waiting = DocumentEmbedding.objects.waiting()
    assert waiting.filter(claimed_until__gt=timezone.now() + timedelta(hours=23)).count() == 2

    refused.update(upstream_name="vectors")
    forget_routes()
    saved(alice, "Good", "refund")
    vectors.tend()
    assert set(waiting.values_list("document__title", flat=True)) == {"Bad 0", "Bad 1"}


def test_the_command_says_what_it_did_and_fails_with_a_sentence(models, monkeypatch):
    monkeypatch.setattr(command, "EVERY", 0)
    out, err = StringIO(), StringIO()
    other = vectors.add_model("other")
    vectors.fill(other)
    vectors.embed_some(other, 2)
    call_command("reembed", model="other", stdout=out, stderr=err)
    assert err.getvalue().splitlines()[:4] == [
        "2 of 5 documents are there already.",
        "4 of 5 documents are embedded.",
        "5 of 5 documents are embedded.",
        "2 of 18 patterns are embedded.",
    ]
    assert "Searches go by the vectors of other." in out.getvalue()
    assert "Set EMBEDDING_MODEL=other" in out.getvalue()

    with pytest.raises(CommandError, match="does not exist"):
        call_command("reembed", model="none", stderr=StringIO())


def test_only_one_may_run(models):
    def run(statement):
        with connection.cursor() as cursor:
            cursor.execute(statement, [LOCK])

    with ThreadPoolExecutor(1) as elsewhere:
        elsewhere.submit(run, "SELECT pg_advisory_lock(%s)").result()
        with pytest.raises(Conflict):
            reembed("other", lambda *progress: None)
        elsewhere.submit(run, "SELECT pg_advisory_unlock(%s)").result()
        elsewhere.submit(lambda: connection.close()).result()
