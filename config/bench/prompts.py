"""`manage.py bench prompts`: how well intents are told apart, prompts improved and found, beside what was promised."""

from __future__ import annotations

import gzip
import json
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from config.bench import enhance, machine, search
from config.bench.installation import Installation
from config.embedded.modelserver.embeddings import Embedder
from config.embedded.process import StartProblemError
from prompts.intents import evaluation
from prompts.intents.evaluation import Sets
from prompts.intents.learned import Features

DEFAULT_PATH = "../shared/data/clinc150.json.gz"
SOURCE = "https://github.com/clinc/oos-eval (data_full.json, CC BY 3.0)"
EACH, ASKED = 20, 1_000
SEEDS, QUICK_SEEDS = 10, 1
PROMISED = {"accuracy": 0.91, "out_of_scope_auroc": 0.95}
FIGURES = (
    "accuracy",
    "out_of_scope_auroc",
    "uncalibrated_error",
    "calibration_error",
    "called_unknown",
    "out_of_scope_called_unknown",
)

Rows = list[tuple[str, str]]


def run(path: Path, *, quick: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """CLINC150, `EACH` examples an intent, `ASKED` texts, for several seeds. Raises `StartProblemError`."""
    data = read(path)
    installation = Installation(say)
    installation.supervisor.catch_signals()
    try:
        installation.start()
        by = embedder()
        strange = evaluation.embedded([text for text, _intent in data["oos_test"]], by)
        results = []
        for seed in range(QUICK_SEEDS if quick else SEEDS):
            begun = time.perf_counter()
            results.append(evaluation.evaluate(chosen(data, seed, by, strange), seed=seed))
            say(f"Seed {seed} took {time.perf_counter() - begun:.1f} s.")
        texts = [text for text, _intent in data["test"]]
        enhanced = {"enhance": enhance.run(installation, texts, quick=quick, say=say)}
        searched = {"search": search.run(data, by, quick=quick, say=say)}
        return machine.describe() | {"promised": PROMISED, "seeds": results} | means(results) | enhanced | searched
    finally:
        installation.stop()


def read(path: Path) -> dict[str, Rows]:
    """The file, by the names of its parts."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            data: dict[str, Rows] = json.load(file)
    except FileNotFoundError:
        raise StartProblemError(
            f"There is no {path}. CLINC150 is to be had at {SOURCE}; compress it with gzip and name it with --clinc, "
            "or in the variable CLINC150."
        ) from None
    except (OSError, ValueError) as error:
        raise StartProblemError(f"{path} is not CLINC150 as JSON, compressed with gzip: {error}.") from None
    if missing := {"train", "test", "oos_test"} - data.keys():
        raise StartProblemError(f"{path} lacks {', '.join(sorted(missing))}.")
    return data


def embedder() -> evaluation.Embed:
    """The embedded model itself, in this process: what is measured is the classifier, and no server."""
    model = Embedder()
    return lambda texts: model.vectors(texts).tolist()


def chosen(data: dict[str, Rows], seed: int, by: evaluation.Embed, strange: Features) -> Sets:
    """The examples and the texts of one seed, embedded."""
    shuffled = np.random.default_rng(seed)
    of_intent: dict[str, list[str]] = defaultdict(list)
    for text, intent in data["train"]:
        of_intent[intent].append(text)
    known = [
        (of_intent[intent][at], intent)
        for intent in sorted(of_intent)
        for at in shuffled.choice(len(of_intent[intent]), EACH, replace=False)
    ]
    asked = [data["test"][at] for at in shuffled.choice(len(data["test"]), ASKED, replace=False)]
    return Sets(
        known=evaluation.embedded([text for text, _intent in known], by),
        intents=[intent for _text, intent in known],
        asked=evaluation.embedded([text for text, _intent in asked], by),
        wanted=[intent for _text, intent in asked],
        strange=strange,
    )


def means(results: list[dict[str, Any]]) -> dict[str, Any]:
    """The mean of each figure over the seeds, and its range."""
    of = {name: [one[name] for one in results] for name in FIGURES}
    return {
        "mean": {name: round(float(np.mean(values)), 4) for name, values in of.items()},
        "lowest": {name: min(values) for name, values in of.items()},
        "highest": {name: max(values) for name, values in of.items()},
    }
