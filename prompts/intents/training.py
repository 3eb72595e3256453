"""Training, and what is measured of it on patterns that were held out.

Two kinds of patterns are held out in turn. A fifth of each intent shows how often and how surely the blend is right. A
fifth of the intents as a whole plays the texts that nobody foresaw, so that `unknown` can be learned without any.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from accounts.exceptions import InvalidInput
from prompts.intents import arithmetic
from prompts.intents.arithmetic import Calibration, Labels, Linear, Matrix, Scores
from prompts.intents.measures import auroc, calibration_error

FOLDS = 5
# Fewer of an intent cannot be learned and held out.
LEAST_OF_AN_INTENT = 5
LEAST_INTENTS = 2
# Inverse strength of the regularisation; chosen on the validation part of CLINC150, between 3 and 30.
C = 10.0
# Patterns of held-out intents are nearer to the others than texts of a stranger, so they count for little.
UNKNOWN_SHARE = 0.05
# The share of right answers that may be called unknown.
RIGHT_BUT_UNKNOWN = 0.05
TEMPERATURES = np.geomspace(0.1, 2.0, 20)
# Quantiles of the scores of held-out patterns, one of which becomes the score of "none of these".
BACKGROUNDS = np.linspace(0, 0.6, 16)

Say = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Trained:
    linear: Linear
    calibration: Calibration
    metrics: dict[str, Any]
    pattern_count: int


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Logits and nearness of patterns that were not learned; a logit is -inf where an intent itself was held out."""

    logits: Scores
    near: Scores


def train(vectors: Matrix, intents: Sequence[str], *, seed: int = 0, say: Say | None = None) -> Trained:
    """Learn from unit vectors of shape (patterns, dimensions) and their intents; `say` hears of percents.

    Intents with fewer than `LEAST_OF_AN_INTENT` patterns are left out. Raises `InvalidInput` if too few are left.
    """
    say = say or _unheard
    names, every = np.unique(np.asarray(intents), return_inverse=True)
    enough = np.bincount(every, minlength=len(names)) >= LEAST_OF_AN_INTENT
    if enough.sum() < LEAST_INTENTS:
        raise InvalidInput(
            f"There must be at least {LEAST_INTENTS} intents with {LEAST_OF_AN_INTENT} embedded patterns each."
        )
    kept = enough[every]
    vectors, names = vectors[kept], names[enough]
    labels: Labels = np.searchsorted(names, np.asarray(intents)[kept])
    shuffled = np.random.default_rng(seed)
    known = _hold_out(vectors, labels, len(names), _folds_of_patterns(labels, shuffled), lambda done: say(8 * done))
    folds = shuffled.permutation(len(names))[labels] % FOLDS
    strange = _hold_out(vectors, labels, len(names), folds, lambda done: say(40 + 8 * done))
    calibration = _calibrate(known, strange, labels)
    coefficients, constants, _present = _fit(vectors, labels, len(names))
    say(95)
    linear = Linear(tuple(map(str, names)), coefficients.astype(np.float32), constants.astype(np.float32))
    return Trained(linear, calibration, _metrics(known, strange, labels, linear.intents, calibration), len(vectors))


def _unheard(percent: int) -> None:
    pass


def _folds_of_patterns(labels: Labels, shuffled: np.random.Generator) -> Labels:
    """A fold for each pattern, such that each has its share of every intent."""
    folds = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        of_intent = shuffled.permutation(np.flatnonzero(labels == label))
        folds[of_intent] = np.arange(len(of_intent)) % FOLDS
    return folds


def _hold_out(vectors: Matrix, labels: Labels, count: int, folds: Labels, say: Say) -> HeldOut:
    logits, near = np.full((len(labels), count), -np.inf), np.zeros((len(labels), count))
    for fold in range(FOLDS):
        out = folds == fold
        if out.any() and len(np.unique(labels[~out])) >= LEAST_INTENTS:
            coefficients, constants, present = _fit(vectors[~out], labels[~out], count)
            logits[np.ix_(out, present)] = (vectors[out] @ coefficients.T + constants)[:, present]
            near[out] = arithmetic.nearness_among(vectors[out], vectors[~out], labels[~out], count)
        say(fold + 1)
    return HeldOut(logits, near)


def _fit(vectors: Matrix, labels: Labels, count: int) -> tuple[Scores, Scores, Labels]:
    """Coefficients and constants of all `count` intents, and which of them there were patterns of."""
    # Here, because it takes a second and 100 MB that only a process which trains shall spend.
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    # More threads only wait for each other on matrices as small as these.
    with threadpool_limits(1):
        fitted = LogisticRegression(C=C, max_iter=500).fit(vectors, labels)
    coefficients, constants = np.zeros((count, vectors.shape[1])), np.zeros(count)
    if len(fitted.classes_) == 2:  # one row of coefficients then tells the second from the first
        coefficients[fitted.classes_] = np.concatenate([-fitted.coef_, fitted.coef_]) / 2
        constants[fitted.classes_] = np.concatenate([-fitted.intercept_, fitted.intercept_]) / 2
    else:
        coefficients[fitted.classes_], constants[fitted.classes_] = fitted.coef_, fitted.intercept_
    return coefficients, constants, fitted.classes_


def _calibrate(known: HeldOut, strange: HeldOut, labels: Labels) -> Calibration:
    learned = np.isfinite(known.logits)
    slope, level = np.polyfit(known.near[learned], known.logits[learned], 1)
    calibration = Calibration(
        linear_scale=float(known.logits[learned].std()) or 1.0,
        near_scale=float(known.near.std()) or 1.0,
        near_slope=float(slope),
        near_level=float(level),
    )
    of_known, of_strange = _scores(known, calibration), _scores(strange, calibration)
    chosen, least = calibration, np.inf
    for temperature in TEMPERATURES:
        for background in np.quantile(of_known.max(axis=1), BACKGROUNDS):
            way = replace(calibration, temperature=float(temperature), background=float(background))
            loss = _loss(of_known, of_strange, labels, way)
            if loss < least:
                chosen, least = way, loss
    return replace(chosen, threshold=_threshold(of_known, labels, chosen))


def _scores(held_out: HeldOut, calibration: Calibration) -> Scores:
    return arithmetic.blend(held_out.logits, held_out.near, calibration)


def _loss(known: Scores, strange: Scores, labels: Labels, calibration: Calibration) -> float:
    """The negative logarithm of the chance that was given to what is true, on the average."""
    right = arithmetic.chances(known, calibration)[np.arange(len(labels)), labels]
    none = 1 - arithmetic.chances(strange, calibration).sum(axis=1)
    lowest = 1e-12
    of_known, of_strange = np.log(np.maximum(right, lowest)).mean(), np.log(np.maximum(none, lowest)).mean()
    return float(-(1 - UNKNOWN_SHARE) * of_known - UNKNOWN_SHARE * of_strange)


def _threshold(known: Scores, labels: Labels, calibration: Calibration) -> float:
    """The confidence that all but a few of the right answers reach."""
    of_known = arithmetic.chances(known, calibration)
    right = of_known.argmax(axis=1) == labels
    sure = of_known.max(axis=1)[right]
    return round(float(np.quantile(sure, RIGHT_BUT_UNKNOWN)), 3) if sure.size else 0.5


def _metrics(
    known: HeldOut, strange: HeldOut, labels: Labels, names: Sequence[str], calibration: Calibration
) -> dict[str, Any]:
    chances = arithmetic.chances(_scores(known, calibration), calibration)
    sure, guessed = chances.max(axis=1), chances.argmax(axis=1)
    of_strange = arithmetic.chances(_scores(strange, calibration), calibration).max(axis=1)
    intents = []
    for label, name in enumerate(names):
        of_intent = labels == label
        mistaken = np.bincount(guessed[of_intent], minlength=len(names))
        mistaken[label] = 0
        often = [[str(names[at]), int(mistaken[at])] for at in np.argsort(-mistaken)[:3] if mistaken[at]]
        share = float((guessed[of_intent] == label).mean())
        intents.append(
            {"intent": str(name), "patterns": int(of_intent.sum()), "accuracy": round(share, 4), "taken_for": often}
        )
    return {
        "accuracy": round(float((guessed == labels).mean()), 4),
        "out_of_scope_auroc": round(auroc(sure, of_strange), 4),
        "calibration_error": round(calibration_error(sure, guessed == labels), 4),
        "intents": intents,
    }
