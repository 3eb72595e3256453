"""Which techniques a prompt gets: those that its caller names, or those that have worked for its intent.

Thompson sampling (Thompson 1933; Chapelle and Li 2011): for each technique a success rate is drawn from what is known
of it, a beta distribution of the judgements for the intent and of a first guess. Those with the highest draws are
taken. What has worked is drawn high nearly always, what is not known yet sometimes, and so it becomes known.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from django.db.models import FilteredRelation, Q

from accounts.exceptions import InvalidInput
from prompts.enhance.affinities import affinity
from prompts.enhance.estimates import posterior
from prompts.models import Technique

DEFAULT_MOST = 3
MOST = 6
# A draw below this is taken only if there is none above.
WORTH_IT = 0.5


@dataclass(frozen=True, slots=True)
class Option:
    """An active technique as it is now, and how it has done for an intent."""

    slug: str
    group: str
    version: int
    template: str
    parameters: list[dict[str, Any]]
    successes: float = 0.0
    failures: float = 0.0

    @property
    def judged(self) -> float:
        return self.successes + self.failures


@dataclass(frozen=True, slots=True)
class Choice:
    """A technique that was taken, and why; `score` is what was drawn, from 0 to 1, if it was drawn."""

    option: Option
    reason: str
    score: float | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.option.slug,
            "version": self.option.version,
            "reason": self.reason,
            "score": None if self.score is None else round(self.score, 4),
        }


def options_for(intent: str) -> list[Option]:
    """The active techniques in the order in which they are applied, in one statement."""
    record = FilteredRelation("effectiveness", condition=Q(effectiveness__intent=intent))
    found = (
        Technique.objects.active()
        .with_template()
        .annotate(record=record)
        .values_list(
            *("slug", "group", "latest_version", "template", "parameters"),
            *("record__successes", "record__failures"),
        )
    )
    return [
        Option(slug, group, version, template, parameters, float(good or 0), float(bad or 0))
        for slug, group, version, template, parameters, good, bad in found
    ]


def named(options: Iterable[Option], slugs: Sequence[str]) -> list[Choice]:
    """Those that the caller names. `InvalidInput` for one that is not there, or two that do not go together."""
    known = {option.slug: option for option in options}
    groups: dict[str, str] = {}
    for at, slug in enumerate(slugs):
        if slug not in known:
            raise InvalidInput(
                f"There is no active technique {slug[:60]!r}.", code="unknown_technique", param=f"techniques.{at}"
            )
        group = known[slug].group
        other = groups.setdefault(group, slug) if group else slug
        if other != slug:
            raise InvalidInput(
                f"{other} and {slug} do not go together: both say how to do the {group}.",
                code="exclusive_techniques",
                param=f"techniques.{at}",
            )
    return [Choice(option, "named by the caller") for option in known.values() if option.slug in slugs]


def drawn(options: Sequence[Option], *, intent: str, seed: int, most: int = DEFAULT_MOST) -> list[Choice]:
    """Those with the highest draws, at most one of a group, in the order in which they are applied."""
    chance = np.random.default_rng(seed)
    scores = {option.slug: float(chance.beta(*_beta(option, intent))) for option in options}
    taken: dict[str, Choice] = {}
    groups: set[str] = set()
    for option in sorted(options, key=lambda option: (-scores[option.slug], option.slug)):
        score = scores[option.slug]
        if len(taken) == most or (taken and score < WORTH_IT):
            break
        if option.group in groups:
            continue
        groups |= {option.group} - {""}
        taken[option.slug] = Choice(option, _reason(option, intent, score), score)
    return [taken[option.slug] for option in options if option.slug in taken]


def _beta(option: Option, intent: str) -> tuple[float, float]:
    return posterior(intent, option.slug, option.successes, option.failures)


def _reason(option: Option, intent: str, score: float) -> str:
    if not option.judged:
        expected = affinity(intent, option.slug)
        return f"expected to help {expected:.0%} of {intent} prompts, not judged yet; drawn {score:.2f}"
    worked, judged = f"{option.successes:.2f}".rstrip("0").rstrip("."), f"{option.judged:.0f}"
    return f"worked in {worked} of {judged} judged uses for {intent}; drawn {score:.2f}"
