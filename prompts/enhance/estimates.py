"""How good a technique is for an intent, as far as that is known."""

from __future__ import annotations

import math
from dataclasses import dataclass

from prompts.enhance.affinities import WEIGHT, affinity
from prompts.models import TechniqueEffectiveness

# Standard deviations on either side, within which nine of ten rates lie.
SPREAD = 1.645


@dataclass(frozen=True, slots=True)
class Estimate:
    """A success rate from 0 to 1, and about where it lies with a probability of 90 %."""

    rate: float
    low: float
    high: float


def posterior(intent: str, technique: str, successes: float, failures: float) -> tuple[float, float]:
    """The parameters of the beta distribution of a success rate: the judgements, and the first guess beside them."""
    guess = affinity(intent, technique)
    return WEIGHT * guess + successes, WEIGHT * (1 - guess) + failures


def estimate(intent: str, technique: str, successes: float = 0, failures: float = 0) -> Estimate:
    good, bad = posterior(intent, technique, successes, failures)
    whole = good + bad
    around = SPREAD * math.sqrt(good * bad / (whole * whole * (whole + 1)))
    rate = good / whole
    return Estimate(rate, max(0.0, rate - around), min(1.0, rate + around))


def estimate_of(row: TechniqueEffectiveness) -> Estimate:
    """The technique of the row must have been read with it."""
    return estimate(row.intent, row.technique.slug, float(row.successes), float(row.failures))
