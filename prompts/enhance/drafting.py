"""From a prompt and its intent to an improved prompt, without any model: techniques are chosen and applied."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from accounts.exceptions import InvalidInput
from prompts.enhance.choosing import Choice, Option, drawn, named, options_for
from prompts.enhance.wishes import Parameters, Wish
from prompts.exceptions import TemplateError
from prompts.intents.classification import Result
from prompts.markup import parse
from prompts.models import IntentPattern
from prompts.models.intents import UNKNOWN
from prompts.rendering import fill
from prompts.techniques import PROMPT
from prompts.variables import Variable, stored

SEED_BITS = 32
MOST_CHARACTERS = 200_000


@dataclass(frozen=True, slots=True)
class Draft:
    """A prompt with its techniques applied. `seed` is what they were drawn with; None if they were named."""

    wish: Wish
    found: Result
    choices: list[Choice]
    seed: int | None
    text: str

    @property
    def is_experiment(self) -> bool:
        """Whether the caller has named neither the techniques, nor what they were drawn for, nor how."""
        return not (self.wish.techniques or self.wish.intent) and self.wish.seed is None

    @property
    def intent(self) -> str:
        return str(self.found["intent"])


def intent_as_given(intent: str) -> Result:
    """As if it had been found. `InvalidInput` if no pattern has this intent."""
    if intent != UNKNOWN and not IntentPattern.objects.active().filter(intent=intent).exists():
        raise InvalidInput(f"There is no intent {intent}.", code="unknown_intent", param="intent")
    return {
        "intent": intent,
        "confidence": 1.0,
        "is_unknown": intent == UNKNOWN,
        "method": "given",
        "is_fallback": False,
        "fallback_reason": None,
    }


def draft(wish: Wish, found: Result) -> Draft:
    """Raises `InvalidInput` for techniques and parameters that make no sense."""
    options = options_for(found["intent"])
    given = wish.parameters or {}
    _check_given(given, wish.techniques, options)
    seed = None
    if wish.techniques:
        choices = named(options, wish.techniques)
    else:
        seed = secrets.randbits(SEED_BITS) if wish.seed is None else wish.seed
        choices = drawn(options, intent=found["intent"], seed=seed, most=wish.most)
    return Draft(wish, found, choices, seed, apply(wish.prompt, choices, given))


def apply(prompt: str, choices: Sequence[Choice], given: Parameters) -> str:
    """The prompt within the texts of its techniques, the first one innermost. Raises `InvalidInput`.

    A parameter may stand in a template many times, so the result has a bound of its own.
    """
    text = prompt
    for choice in choices:
        option = choice.option
        pieces, variables = parse(option.template, param="techniques"), (Variable(PROMPT), *stored(option.parameters))
        values: dict[str, Any] = {**given.get(option.slug, {}), PROMPT: text}
        try:
            text = fill(pieces, variables, values, param=f"parameters.{option.slug}")
        except TemplateError as refusal:
            raise _too_long(option.slug, given) if refusal.code == "too_large" else refusal from None
        if len(text) > MOST_CHARACTERS:
            raise _too_long(option.slug, given)
    return text


def _too_long(slug: str, given: Parameters) -> InvalidInput:
    return InvalidInput(
        f"With {slug} the prompt would have more than {MOST_CHARACTERS:,} characters.",
        code="too_long",
        param=f"parameters.{slug}" if given.get(slug) else "prompt",
    )


def _check_given(given: Parameters, techniques: Sequence[str], options: Sequence[Option]) -> None:
    known = set(techniques) or {option.slug for option in options}
    for slug, values in given.items():
        if slug not in known:
            raise InvalidInput(
                f"There are parameters for {slug[:60]!r}, which is not applied.",
                code="unknown_technique",
                param=f"parameters.{slug[:60]}",
            )
        if PROMPT in values:
            raise TemplateError(
                f"{slug} has no parameter {PROMPT}.", code="unknown_variable", param=f"parameters.{slug}.{PROMPT}"
            )
