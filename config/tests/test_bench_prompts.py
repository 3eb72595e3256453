"""`manage.py bench prompts`: how well intents are told apart, on real texts where they are."""

import gzip
import json
from pathlib import Path

import pytest

from config.bench import prompts, report, search, search_sets
from config.embedded.process import StartProblemError

DATA = Path(__file__).resolve().parents[2] / prompts.DEFAULT_PATH


def test_data_that_are_not_there_or_no_data_are_one_sentence(tmp_path):
    (tmp_path / "broken").write_bytes(b"no gzip")
    (tmp_path / "other").write_bytes(gzip.compress(json.dumps({"train": []}).encode()))

    for name, says in (
        ("none", "CLINC150 is to be had at"),
        ("broken", "is not CLINC150"),
        ("other", "lacks oos_test"),
    ):
        with pytest.raises(StartProblemError, match=says):
            prompts.read(tmp_path / name)


def test_the_table_shows_what_was_promised_beside_what_was_measured():
    figures = {
        "calibration_error": 0.03,
        "uncalibrated_error": 0.2,
        "called_unknown": 0.1,
        "out_of_scope_called_unknown": 0.9,
    }
    seeds = [{"accuracy": right, "out_of_scope_auroc": 0.96, **figures} for right in (0.9, 0.92)]
    result = {
        "machine": {"cores": 2, "processor": "some"},
        "versions": {},
        "promised": prompts.PROMISED,
        "seeds": seeds,
        "enhance": {
            "promised_p50_ms": 25.0,
            **{name: {"p50_ms": 9.04, "p95_ms": 12.5} for name in ("cached", "embedded")},
        },
        "search": {
            "promised": search.PROMISED,
            "quality": {"a set": {"text": 0.5, "semantic": 0.6, "hybrid": 0.7, "texts": 2_000, "questions": 9}},
            "speed": {
                "documents": 100_000,
                "recall": 0.96,
                "p50_ms": 3,
                "bare_p50_ms": 2,
                "ratio": 1.5,
                "ranking_p50_ms": 1,
            },
        },
    }

    table = report.prompts(result | prompts.means(seeds)).splitlines()

    assert table[3].split()[-6:] == ["0.91", "0.9100", "0.9000", "0.9200", "0.9000", "0.9200"]
    assert ["known", "prompts", "25.0", "9.0", "12.5"] in [line.split() for line in table]
    assert ["a", "set", "0.5000", "0.6000", "0.7000", "2,000", "9"] in [line.split() for line in table]
    assert ["recall@10", "of", "the", "index", "0.95", "0.9600"] in [line.split() for line in table]


def test_a_list_is_the_better_the_earlier_it_has_what_is_wanted():
    assert search.ndcg([True, True, False], 2) == 1
    assert search.ndcg([False, True], 1) == pytest.approx(0.63, abs=0.01)
    assert search.ndcg([False] * 10 + [True], 1) == search.ndcg([], 3) == 0
    assert search.ndcg([True] * 10, 150) == 1


def test_what_weights_were_chosen_on_has_nothing_in_common_with_what_is_measured():
    words = [f"word{number}" for number in range(400)]
    train = [(f"please {word} it {number}", str(number % 4)) for number, word in enumerate(words)]
    data = {"train": train, "val": [("tune this", "1")], "test": [("test that", "2"), ("and that", "3")]}
    made = [
        [search_sets.same_intent(data, part, 1), search_sets.rare_words(data, part, 20)]
        for part in ("tuning", "testing")
    ]

    for tuning, testing in zip(*made, strict=True):
        assert not {text for _title, text in tuning.texts} & {text for _title, text in testing.texts}
        assert not {text for text, _answers in tuning.questions} & {text for text, _answers in testing.questions}
        assert all(answers <= set(range(len(testing.texts))) for _text, answers in testing.questions)
    again = search_sets.rare_words(data, "testing", 20)
    assert (again.texts, again.questions) == (made[1][1].texts, made[1][1].questions)
    assert search_sets.documentation("testing", 5).questions[0][1]


def test_the_many_texts_are_different_and_hold_no_question():
    data = {"train": [(f"do {number}", "x") for number in range(40)], "test": [("ask this", "x"), ("ask that", "x")]}

    texts, asked = search.many(data, 100, 1)

    assert len({text for _title, text in texts}) == 100
    assert not any(asked[0] in text for _title, text in texts)


@pytest.mark.drill
def test_intents_are_told_apart_as_promised():
    """With CLINC150 in its place; else with a sentence that says where to get it."""
    if not DATA.exists():
        with pytest.raises(StartProblemError):
            prompts.read(DATA)
        return
    data, by = prompts.read(DATA), prompts.embedder()
    strange = prompts.evaluation.embedded([text for text, _intent in data["oos_test"]], by)

    result = prompts.evaluation.evaluate(prompts.chosen(data, 0, by, strange), seed=0)

    assert result["accuracy"] >= prompts.PROMISED["accuracy"]
    assert result["out_of_scope_auroc"] >= prompts.PROMISED["out_of_scope_auroc"]
