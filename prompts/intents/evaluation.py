"""How well texts of one file are classified by those of another. No stored pattern is read or written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from accounts.csv_files import rows_of
from accounts.exceptions import InvalidInput
from inference.system_calls import embed
from prompts.intents import arithmetic
from prompts.intents.arithmetic import Scores
from prompts.intents.classification import MOST_CHARACTERS
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
        (_line, columns), *rows = [*rows_of(path.read_bytes())] or [(1, [])]
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}.") from None
    except InvalidInput as refusal:
        raise InvalidInput(f"{path}: {refusal}") from None
    if not set(wanted) <= set(columns):
        raise InvalidInput(f"{path}: the first line must name the columns {' and '.join(wanted)}.")
    if not rows:
        raise InvalidInput(f"{path}: there are no rows.")
    texts, intents = (_column(name, columns, rows) for name in ("text", "intent"))
    tests = {
        "there are more cells than columns": [len(cells) > len(columns) for _line, cells in rows],
        f"a cell of {' or '.join(wanted)} is empty": [
            not text or (labelled and not intent) for text, intent in zip(texts, intents, strict=True)
        ],
        f"a text has more than {MOST_CHARACTERS:,} characters": [len(text) > MOST_CHARACTERS for text in texts],
        "there is a NUL character": ["\0" in f"{text}{intent}" for text, intent in zip(texts, intents, strict=True)],
    }
    for trouble, is_so in tests.items():
        if bad := [str(line) for (line, _cells), it_is in zip(rows, is_so, strict=True) if it_is]:
            more = f" and {len(bad) - SHOWN_ROWS} more" if bad[SHOWN_ROWS:] else ""
            raise InvalidInput(f"{path}: {trouble} in line {', '.join(bad[:SHOWN_ROWS])}{more}.")
    return Labelled(texts, intents)


def _column(name: str, columns: list[str], rows: list[tuple[int, list[str]]]) -> list[str]:
    """The cells of a column; empty ones where a row has none."""
    at = columns.index(name) if name in columns else len(columns)
    return [cells[at].strip() if at < min(len(cells), len(columns)) else "" for _line, cells in rows]


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
