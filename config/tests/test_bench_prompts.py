"""`manage.py bench prompts`: how well intents are told apart, on real texts where they are."""

import gzip
import json
from pathlib import Path

import pytest

from config.bench import prompts, report
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
    }

    table = report.prompts(result | prompts.means(seeds)).splitlines()

    assert table[3].split()[-6:] == ["0.91", "0.9100", "0.9000", "0.9200", "0.9000", "0.9200"]
    assert table[-2].split() == ["known", "prompts", "25.0", "9.0", "12.5"]


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
