"""From what was learned to the chance of each intent, with a look at how near the nearest patterns are.

A score is the learned logit of an intent plus the mean similarity of its nearest patterns, both in units of their own
spread. A softmax over all scores, and one fixed score for "none of these", makes them chances; its temperature and that
fixed score are found on held-out patterns (a multinomial form of Platt's scaling). NumPy alone is needed here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float32]
Scores = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

# How many of the nearest patterns are looked at, and how many of one intent count.
NEIGHBOURS = 40
NEAREST_OF_AN_INTENT = 3
# What nearness weighs beside what was learned; chosen on the validation part of CLINC150.
NEAR_WEIGHT = 0.5


@dataclass(frozen=True, slots=True)
class Calibration:
    """How scores become chances. Scores are divided by `temperature`; `background` is the score of "none of these".

    `near_slope` and `near_level` say which logit goes with a nearness, for intents that were not learned yet. Who is
    below `threshold` is unknown.
    """

    logit_scale: float
    near_scale: float
    near_slope: float
    near_level: float
    temperature: float = 1.0
    background: float = 0.0
    threshold: float = 0.5


def unit(vectors: Matrix) -> Matrix:
    """The same directions, of length one."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, np.finfo(np.float32).tiny), dtype=np.float32)


def nearness(similarities: Sequence[float] | Scores, labels: Sequence[int] | Labels, count: int) -> Scores:
    """For each of `count` intents, the mean similarity of its nearest patterns among the neighbours of one text.

    Where an intent has fewer, the similarity of the farthest neighbour stands in: it is no nearer than that.
    """
    known = np.asarray(similarities, dtype=np.float64)
    floor = known.min() if known.size else 0.0
    nearest = np.full((count, NEAREST_OF_AN_INTENT), floor)
    found = np.zeros(count, dtype=int)
    for at in np.argsort(-known, kind="stable"):
        label = labels[at]
        if found[label] < NEAREST_OF_AN_INTENT:
            nearest[label, found[label]] = known[at]
            found[label] += 1
    return np.asarray(nearest.mean(axis=1))


def nearness_among(vectors: Matrix, patterns: Matrix, labels: Labels, count: int) -> Scores:
    """`nearness` of many texts, whose neighbours are looked for here instead of in the database."""
    similarities = np.asarray(vectors @ patterns.T, dtype=np.float64)
    most = min(NEIGHBOURS, len(patterns))
    nearest = np.argpartition(-similarities, most - 1, axis=1)[:, :most]
    rows = [nearness(similarities[row, some], labels[some], count) for row, some in enumerate(nearest)]
    return np.array(rows).reshape(len(vectors), count)


def blend(logits: Scores, near: Scores, calibration: Calibration) -> Scores:
    """Scores of shape (texts, intents). A logit that is NaN stands for an intent that was not learned yet."""
    guessed = calibration.near_slope * near + calibration.near_level
    known = np.where(np.isnan(logits), guessed, logits)
    return np.asarray(known / calibration.logit_scale + NEAR_WEIGHT * near / calibration.near_scale)


def chances(scores: Scores, calibration: Calibration) -> Scores:
    """Chances of shape (texts, intents); what is missing to 1 is the chance that it is none of them."""
    background = np.full((len(scores), 1), calibration.background)
    scaled = np.concatenate([scores, background], axis=1) / calibration.temperature
    weights = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray((weights / weights.sum(axis=1, keepdims=True))[:, :-1])
