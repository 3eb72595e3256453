"""How well texts of one file are classified by those of another. No stored pattern is read or written."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from accounts.exceptions import InvalidInput
from inference.system_calls import embed
from prompts.intents import arithmetic
from prompts.intents.arithmetic import Scores
from prompts.intents.learned import Features
from prompts.intents.measures import auroc, calibration_error
from prompts.intents.training import Trained, train
from prompts.models.intents import DIMENSIONS

BATCH = 64
SHOWN_ROWS = 10

Say = Callable[[int], None]
Embed = Callable[[list[str]], list[list[float]]]


@dataclass(frozen=True, slots=True)
class Labelled:
    """Texts with their intents, which may be empty for texts that have none."""

    texts: list[str]
    intents: list[str]


def read_csv(path: Path, *, labelled: bool = True) -> Labelled:
    """The columns `text` and `intent` of a file; `InvalidInput` names the rows that are wrong."""
    wanted = ("text", "intent") if labelled else ("text",)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file, strict=True)
            missing = [name for name in wanted if name not in (rows.fieldnames or ())]
            if missing:
                raise InvalidInput(f"{path}: the first line must name the columns {' and '.join(wanted)}.")
            found = [(rows.line_num, row) for row in rows]
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}.") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidInput(f"{path}: this is no CSV file in UTF-8: {error}.") from None
    bad = [line for line, row in found if not all((row[name] or "").strip() for name in wanted)]
    if bad:
        more = f" and {len(bad) - SHOWN_ROWS} more" if bad[SHOWN_ROWS:] else ""
        named = ", ".join(map(str, bad[:SHOWN_ROWS])) + more
        raise InvalidInput(f"{path}: a cell of {' or '.join(wanted)} is empty in line {named}.")
    if not found:
        raise InvalidInput(f"{path}: there are no rows.")
    return Labelled(
        [row["text"].strip() for _line, row in found], [(row.get("intent") or "").strip() for _line, row in found]
    )


def by_model(model: str) -> Embed:
    """Embeds by a model of this installation, as a call of Mainstay's own."""
    return lambda texts: embed(texts=texts, model=model, dimensions=DIMENSIONS)


def embedded(texts: Sequence[str], by: Embed, say: Say | None = None) -> Features:
    """What is compared of texts; `say` hears how many are done each time. Raises `UpstreamError`, `ModelNotFound`."""
    vectors: list[list[float]] = []
    for batch in _batches(texts):
        vectors += by(batch)
        if say:
            say(len(batch))
    directions = arithmetic.unit(np.asarray(vectors, dtype=np.float32).reshape(len(texts), DIMENSIONS))
    return Features.of(directions, texts)


def _batches(texts: Sequence[str]) -> Iterator[list[str]]:
    for start in range(0, len(texts), BATCH):
        yield list(texts[start : start + BATCH])


@dataclass(frozen=True, slots=True)
class Sets:
    """What is learned, what is asked, and texts out of scope (possibly none)."""

    known: Features
    intents: Sequence[str]
    asked: Features
    wanted: Sequence[str]
    strange: Features


def evaluate(sets: Sets, *, seed: int) -> dict[str, Any]:
    """Train on the one, ask the other. Raises `InvalidInput` if there is too little to learn from."""
    trained = train(sets.known, sets.intents, seed=seed)
    scores, calibration = _scores(trained, sets, sets.asked), trained.calibration
    names, threshold = np.array(trained.learned.intents), calibration.threshold
    sure = arithmetic.chances(scores, calibration).max(axis=1)
    is_right = names[scores.argmax(axis=1)] == np.asarray(sets.wanted)
    plain = replace(calibration, temperature=1.0, background=-np.inf)
    before = arithmetic.chances(scores, plain).max(axis=1)
    result: dict[str, Any] = {
        "patterns": trained.pattern_count,
        "intents": len(names),
        "texts": len(sets.asked),
        "out_of_scope_texts": len(sets.strange),
        "seed": seed,
        "accuracy": round(float(is_right.mean()), 4),
        "calibration_error": round(calibration_error(sure, is_right), 4),
        "uncalibrated_error": round(calibration_error(before, is_right), 4),
        "threshold": threshold,
        "called_unknown": round(float((sure < threshold).mean()), 4),
        "out_of_scope_auroc": None,
        "out_of_scope_called_unknown": None,
    }
    if len(sets.strange):
        of_strange = arithmetic.chances(_scores(trained, sets, sets.strange), calibration).max(axis=1)
        result["out_of_scope_auroc"] = round(auroc(sure, of_strange), 4)
        result["out_of_scope_called_unknown"] = round(float((of_strange < threshold).mean()), 4)
    return result


def _scores(trained: Trained, sets: Sets, texts: Features) -> Scores:
    """As `classification.by_vector`, but with neighbours that are no rows."""
    names = trained.learned.intents
    places = {name: at for at, name in enumerate(names)}
    learned = np.array([intent in places for intent in sets.intents])
    labels = np.array([places[intent] for intent in sets.intents if intent in places], dtype=np.int64)
    near = arithmetic.nearness_among(texts.vectors, sets.known.vectors[learned], labels, len(names))
    return arithmetic.blend(trained.learned.logits(texts), near, trained.calibration)
