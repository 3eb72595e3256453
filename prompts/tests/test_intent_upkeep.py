"""What workers do: embed patterns, train classifiers, and take over from each other."""

import io
from datetime import timedelta

import numpy as np
import pytest
from django.utils import timezone

from accounts.exceptions import Conflict, InvalidInput
from inference import services as inference
from inference.exceptions import UpstreamError
from inference.models import Model, Price, Provider, Request
from inference.stub import StubServer, answers
from inference.system_calls import system_user
from prompts.intents import arithmetic, classification, learned, measures, patterns, training, upkeep
from prompts.intents.learned import Features, Learned
from prompts.intents.training import train as train_on
from prompts.intents.words import WordIndex
from prompts.models import IntentClassifier, IntentPattern
from prompts.models.intents import DIMENSIONS
from prompts.tasks import tend_intents
from prompts.tests.intents import INTENTS, caller_of, make_patterns, train, vector

Status = IntentClassifier.Status


@pytest.fixture
def embedding(db, settings, monkeypatch):
    """The model that embeds patterns: the first word of a text says near which axis."""
    settings.EMBEDDING_MODEL = "vectors"
    monkeypatch.setattr(
        answers, "vector_of", lambda item, size=8: list(map(float, 3 * vector(item.split()[0], len(item))))
    )
    with StubServer() as stub:
        provider = Provider.objects.create(name="stub", base_url=stub.base_url)
        model = Model.objects.create(name="vectors", upstream_name="vectors", provider=provider, kind="embedding")
        Price.objects.create(model=model, unit="input_tokens", price=1_000_000)
        yield stub


def waiting_patterns(each=6):
    make_patterns(each)
    IntentPattern.objects.update(embedding=None, embedding_model="")


def test_patterns_are_embedded_and_learned_without_anybody_asking(embedding):
    waiting_patterns()
    tend_intents()

    assert not IntentPattern.objects.waiting_for("vectors").exists()
    stored = np.array(IntentPattern.objects.values_list("embedding", flat=True))
    assert np.allclose(np.linalg.norm(stored, axis=1), 1, atol=1e-3)
    active = IntentClassifier.objects.get()
    assert (active.is_active, active.status, active.progress, active.pattern_count) == (True, Status.READY, 100, 18)
    assert active.metrics["accuracy"] == 1.0
    assert [row["intent"] for row in active.metrics["intents"]] == list(INTENTS)
    # A call of Mainstay's own: recorded with its cost, and held on nobody's quota.
    request = Request.objects.get()
    assert (request.user, request.status, request.cost, request.reservation) == (system_user(), "success", 20, None)
    assert not system_user().is_active

    tend_intents()
    assert IntentClassifier.objects.count() == Request.objects.count() == 1


def test_a_change_is_learned_after_the_patterns_have_rested(embedding, olga):
    make_patterns()
    train()
    patterns.change(pattern_id=IntentPattern.objects.first().pk, language="de", by=caller_of(olga))
    now = timezone.now()

    assert not upkeep.request_if_due(now)
    assert upkeep.request_if_due(now + upkeep.REST + timedelta(seconds=5))
    assert not upkeep.request_if_due(now + upkeep.REST + timedelta(seconds=5))
    with pytest.raises(Conflict):
        upkeep.request_training(by=caller_of(olga))

    assert upkeep.train_pending().version == 2
    assert list(IntentClassifier.objects.values_list("version", "is_active")) == [(2, True), (1, False)]


def test_weights_of_an_older_format_are_no_classifier_and_are_trained_anew(embedding):
    make_patterns()
    old = train()
    buffer = io.BytesIO()
    np.savez_compressed(buffer, coefficients=np.ones((3, DIMENSIONS), dtype=np.float32), constants=np.ones(3))
    IntentClassifier.objects.filter(pk=old.pk).update(weights=buffer.getvalue(), weights_format=1)
    classification.forget()

    basis = classification.current_basis()
    answer = classification.without_call("music please", basis)
    assert (answer["intent"], answer["fallback_reason"]) == ("music", "not_trained")

    tend_intents()
    assert list(IntentClassifier.objects.values_list("version", "is_active")) == [(2, True), (1, False)]
    assert classification.without_call("music please", classification.current_basis()) is None
    tend_intents()
    assert IntentClassifier.objects.count() == 2


def test_a_model_that_fails_keeps_nothing_from_being_tried_again(embedding):
    waiting_patterns()
    Provider.objects.update(base_url="http://127.0.0.1:9/v1")

    with pytest.raises(UpstreamError):
        upkeep.embed_some()
    tend_intents()

    assert not IntentPattern.objects.exclude(claimed_until=None).exists()
    assert set(Request.objects.values_list("status", "usage")) == {("error", "none")}


def test_what_another_worker_has_claimed_is_left_alone_until_the_claim_ends(embedding):
    waiting_patterns()
    soon = timezone.now() + timedelta(minutes=1)
    IntentPattern.objects.update(claimed_until=soon)
    assert upkeep.embed_some() == 0

    IntentPattern.objects.update(claimed_until=timezone.now())
    assert upkeep.embed_some() == 18


def test_only_one_worker_trains_and_a_lost_one_is_given_up(db, settings):
    settings.EMBEDDING_MODEL = "vectors"
    make_patterns()
    running = IntentClassifier.objects.create(version=1, status=Status.TRAINING, started_at=timezone.now())
    upkeep.request_training(by=None)

    assert upkeep.train_pending() is None
    IntentClassifier.objects.filter(pk=running.pk).update(started_at=timezone.now() - timedelta(hours=1))
    assert upkeep.give_up_lost() == 1
    assert upkeep.train_pending().is_active


def test_too_few_patterns_fail_with_a_sentence_and_are_not_tried_for_ever(db, settings):
    settings.EMBEDDING_MODEL = "vectors"
    make_patterns(each=2)

    failed = train()

    assert (failed.status, failed.is_active) == (Status.FAILED, False)
    assert "at least 2 intents" in IntentClassifier.objects.get().error
    assert not upkeep.request_if_due(timezone.now() + timedelta(hours=1))


def test_a_call_of_our_own_that_was_lost_is_swept(db):
    lost = Request.objects.create(
        user=system_user(), request_type="embedding", model="m", created_at=timezone.now() - timedelta(days=1)
    )

    assert inference.sweep_abandoned() == 1
    lost.refresh_from_db()
    assert (lost.status, lost.error_code) == ("error", "abandoned")


# Writing ---------------------------------------------------------------------------------------------------------


def test_another_text_waits_for_a_vector_and_another_intent_is_a_correction(db, olga):
    make_patterns()
    by, pattern = caller_of(olga), IntentPattern.objects.filter(intent="alarm").first()

    assert patterns.change(pattern_id=pattern.pk, by=by, text="ring ring", intent="music")
    assert not patterns.change(pattern_id=pattern.pk, by=by, text="ring ring")

    pattern.refresh_from_db()
    assert (pattern.embedding, pattern.source, pattern.intent) == (None, "correction", "music")
    twin = patterns.add(intent="alarm", text="ring ring", by=by)
    with pytest.raises(Conflict):
        patterns.add(intent="alarm", text="ring ring", by=by)
    with pytest.raises(Conflict):
        patterns.correct(pattern_id=pattern.pk, intent="music", by=by)
    patterns.correct(pattern_id=pattern.pk, intent="alarm", by=by)
    active = IntentPattern.objects.active().filter(text="ring ring")
    assert [row.pk for row in active] == [twin.pk]
    with pytest.raises(InvalidInput):
        patterns.add(intent="unknown", text="x", by=by)


def test_the_starter_set_is_there(db):
    counts = {}
    for intent in IntentPattern.objects.filter(source="starter").values_list("intent", flat=True):
        counts[intent] = counts.get(intent, 0) + 1

    assert len(counts) >= 12
    assert min(counts.values()) >= 25


# Arithmetic ------------------------------------------------------------------------------------------------------


def features(*pairs):
    """Of intents and numbers, the words of which are those of no other."""
    return Features.of(
        np.stack([vector(*pair) for pair in pairs]), [f"{intent} number {number}" for intent, number in pairs]
    )


def test_weights_come_back_as_they_went_and_nothing_in_them_is_run():
    pairs = [(intent, number) for intent in INTENTS[:2] for number in range(6)]
    known = features(*pairs)
    learned_now = train_on(known, [intent for intent, _number in pairs]).learned
    again = Learned.from_bytes(learned_now.intents, learned_now.to_bytes())

    assert np.allclose(again.logits(known), learned_now.logits(known), atol=1e-2)
    assert (again.logits(known).argmax(axis=1) == np.repeat([0, 1], 6)).all()
    assert again.patterns.shape == (12, DIMENSIONS)
    with pytest.raises(ValueError, match="pickle"):
        Learned.from_bytes(("a",), b"cos\nsystem\n(S'true'\ntR.")


def test_what_was_summed_up_word_by_word_is_the_kernel_itself():
    known = features(("alarm", 1), ("alarm", 2), ("music", 1))
    coefficients = np.array([[1, -1], [0.5, 0], [-1, 2]], dtype=np.float32)

    logits = Learned.of(["alarm", "music"], known, coefficients).logits(known)

    assert np.allclose(logits, learned.likeness(known) @ coefficients, atol=1e-5)
    assert learned.places_of("?!").size == 0
    assert len(learned.places_of("to be or not TO BE")) == 4 + 4


def test_words_decide_between_texts_whose_vectors_say_nothing():
    vectors = np.stack([vector("alarm", number) for number in range(12)])
    texts = [f"{word} {number}" for word in ("stop", "start") for number in range(6)]
    found = train_on(Features.of(vectors, texts), ["off"] * 6 + ["on"] * 6).learned

    asked = Features.of(vectors[:2], ["please stop", "please start"])
    assert [found.intents[at] for at in found.logits(asked).argmax(axis=1)] == ["off", "on"]


def test_of_too_many_patterns_those_of_rare_intents_are_all_learned(monkeypatch):
    monkeypatch.setattr(training, "MOST_LEARNED", 20)
    pairs = [("alarm", number) for number in range(40)] + [("music", number) for number in range(6)]

    trained = train_on(features(*pairs), [intent for intent, _number in pairs])

    counts = {row["intent"]: row["patterns"] for row in trained.metrics["intents"]}
    assert (trained.pattern_count, counts) == (20, {"alarm": 14, "music": 6})


def test_nearness_takes_the_nearest_of_each_intent_and_the_farthest_for_what_is_missing():
    near = arithmetic.nearness([0.9, 0.8, 0.7, 0.6, 0.5], [0, 0, 0, 0, 1], 3)

    assert near == pytest.approx([0.8, 0.5, 0.5])


def test_measures():
    assert measures.auroc(np.array([0.9, 0.8, 0.5]), np.array([0.5, 0.1])) == pytest.approx(5.5 / 6)
    assert measures.calibration_error(np.array([0.95, 0.95]), np.array([True, False])) == pytest.approx(0.45)


def test_words_find_the_pattern_that_shares_the_rarest():
    index = WordIndex.of([("a", "wake me at seven"), ("b", "play me a song"), ("b", "play it me again")])

    assert [match.pattern.intent for match in index.nearest("Play the SONG")] == ["b", "b"]
    assert index.nearest("???") == WordIndex.of([]).nearest("play") == []
    assert index.nearest("wake me at seven")[0].similarity == pytest.approx(1)
