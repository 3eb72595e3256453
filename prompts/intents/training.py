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
from prompts.intents.arithmetic import Calibration, Labels, Matrix, Scores
from prompts.intents.learned import Features, Learned, likeness
from prompts.intents.measures import auroc, calibration_error

FOLDS = 5
# Fewer of an intent cannot be learned and held out.
LEAST_OF_AN_INTENT = 5
LEAST_INTENTS = 2
# Strength of the regularisation; chosen on the validation part of CLINC150, between 0.1 and 1.
PENALTY = 0.2
# Time grows with the third power of the patterns, and the size of the stored weights with their number.
MOST_LEARNED = 5_000
# Patterns of held-out intents are nearer to the others than texts of a stranger, so they count for little. Chosen on
# the validation part of CLINC150.
UNKNOWN_SHARE = 0.02
# The share of right answers that may be called unknown.
RIGHT_BUT_UNKNOWN = 0.05
# Patterns that are all alike are surer than anything that is asked: who reaches this is known all the same.
HIGHEST_THRESHOLD = 0.9
TEMPERATURES = np.geomspace(0.1, 2.0, 40)
# Shares of the median score of held-out patterns, one of which becomes the score of "none of these".
BACKGROUNDS = np.linspace(0, 1, 31)

Say = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Trained:
    learned: Learned
    calibration: Calibration
    metrics: dict[str, Any]
    pattern_count: int


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Logits and nearness of patterns that were not learned; a logit is -inf where an intent itself was held out."""

    logits: Scores
    near: Scores


def train(known: Features, intents: Sequence[str], *, seed: int = 0, say: Say | None = None) -> Trained:
    """Learn from texts and their intents; `say` hears of percents.

    Intents with fewer than `LEAST_OF_AN_INTENT` patterns are left out, and of more than `MOST_LEARNED` patterns some of
    the commonest intents. Raises `InvalidInput` if too few are left.
    """
    say = say or _unheard
    names, labels = np.unique(np.asarray(intents), return_inverse=True)
    enough = np.bincount(labels, minlength=len(names)) >= LEAST_OF_AN_INTENT
    if enough.sum() < LEAST_INTENTS:
        raise InvalidInput(
            f"There must be at least {LEAST_INTENTS} intents with {LEAST_OF_AN_INTENT} embedded patterns each."
        )
    shuffled = np.random.default_rng(seed)
    turns = _turns(labels, shuffled)
    by_turn = np.argsort(turns, kind="stable")
    kept = np.sort(by_turn[enough[labels[by_turn]]][:MOST_LEARNED])
    known, turns, names, labels = known.part(kept), turns[kept], names[enough], np.cumsum(enough)[labels[kept]] - 1
    alike = likeness(known)
    say(10)
    by_text = _hold_out(known, alike, labels, turns % FOLDS, lambda done: say(10 + 8 * done))
    folds = shuffled.permutation(len(names))[labels] % FOLDS
    by_intent = _hold_out(known, alike, labels, folds, lambda done: say(50 + 8 * done))
    calibration = _calibrate(by_text, by_intent, labels)
    learned = Learned.of([str(name) for name in names], known, _fit(alike, labels, len(names)))
    say(95)
    return Trained(learned, calibration, _metrics(by_text, by_intent, labels, learned.intents, calibration), len(known))


def _unheard(percent: int) -> None:
    pass


def _turns(labels: Labels, shuffled: np.random.Generator) -> Labels:
    """The place of each pattern in a shuffled row of its intent."""
    turns = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        of_intent = shuffled.permutation(np.flatnonzero(labels == label))
        turns[of_intent] = np.arange(len(of_intent))
    return turns


def _hold_out(known: Features, alike: Matrix, labels: Labels, folds: Labels, say: Say) -> HeldOut:
    count = int(labels.max()) + 1
    logits, near = np.full((len(labels), count), -np.inf), np.zeros((len(labels), count))
    for fold in range(FOLDS):
        out, kept = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        present = np.unique(labels[kept])
        if len(out) and len(present) >= LEAST_INTENTS:
            coefficients = _fit(alike[np.ix_(kept, kept)], labels[kept], count)
            logits[np.ix_(out, present)] = (alike[np.ix_(out, kept)] @ coefficients)[:, present]
            near[out] = arithmetic.nearness_among(known.vectors[out], known.vectors[kept], labels[kept], count)
        say(fold + 1)
    return HeldOut(logits, near)


def _fit(alike: Matrix, labels: Labels, count: int) -> Matrix:
    """Coefficients of shape (patterns, intents), from how alike the patterns are."""
    # Here, because it takes a second and 100 MB that only a process which trains shall spend.
    from sklearn.kernel_ridge import KernelRidge
    from threadpoolctl import threadpool_limits

    wanted = (np.eye(count)[labels] - 1 / count).astype(np.float32)
    with threadpool_limits(1):  # the rest of the cores are for those who ask
        fitted = KernelRidge(alpha=PENALTY, kernel="precomputed").fit(alike, wanted)
    return np.asarray(fitted.dual_coef_, dtype=np.float32)


def _calibrate(known: HeldOut, strange: HeldOut, labels: Labels) -> Calibration:
    learned = np.isfinite(known.logits)
    slope, level = np.polyfit(known.near[learned], known.logits[learned], 1)
    calibration = Calibration(
        logit_scale=float(known.logits[learned].std()) or 1.0,
        near_scale=float(known.near.std()) or 1.0,
        near_slope=float(slope),
        near_level=float(level),
    )
    of_known, of_strange = _scores(known, calibration), _scores(strange, calibration)
    backgrounds = BACKGROUNDS * np.median(of_known.max(axis=1))
    losses = np.array([_losses(of_known, of_strange, labels, backgrounds, by) for by in TEMPERATURES])
    temperature, background = np.unravel_index(losses.argmin(), losses.shape)
    chosen = replace(
        calibration, temperature=float(TEMPERATURES[temperature]), background=float(backgrounds[background])
    )
    return replace(chosen, threshold=_threshold(of_known, labels, chosen))


def _scores(held_out: HeldOut, calibration: Calibration) -> Scores:
    return arithmetic.blend(held_out.logits, held_out.near, calibration)


def _losses(known: Scores, strange: Scores, labels: Labels, backgrounds: Scores, temperature: float) -> Scores:
    """For each background, the negative logarithm of the chance that was given to what is true, on the average.

    The chances are those of `arithmetic.chances`; the sum over the intents is made once for all backgrounds.
    """
    right = known[np.arange(len(labels)), labels, np.newaxis] / temperature
    none = backgrounds / temperature
    of_known = right - np.logaddexp(_summed(known, temperature), none)
    of_strange = none - np.logaddexp(_summed(strange, temperature), none)
    return np.asarray(-(1 - UNKNOWN_SHARE) * of_known.mean(axis=0) - UNKNOWN_SHARE * of_strange.mean(axis=0))


def _summed(scores: Scores, temperature: float) -> Scores:
    return np.asarray(np.logaddexp.reduce(scores / temperature, axis=1, keepdims=True))


def _threshold(known: Scores, labels: Labels, calibration: Calibration) -> float:
    """The confidence that all but a few of the right answers reach."""
    of_known = arithmetic.chances(known, calibration)
    right = of_known.argmax(axis=1) == labels
    sure = of_known.max(axis=1)[right]
    if not sure.size:
        return 0.5
    return min(HIGHEST_THRESHOLD, round(float(np.quantile(sure, RIGHT_BUT_UNKNOWN)), 3))


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
