"""What `POST prompts/enhance` answers."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from inference.services import Outcome
from prompts.enhance.drafting import Draft

# Of a classification; its examples and candidates are for who asks for one.
OF_INTENT = ("intent", "confidence", "is_unknown", "method", "is_fallback", "fallback_reason")


def head_of(id: UUID, draft: Draft, *, model: str | None = None) -> dict[str, Any]:
    """All that is known before a model has written anything."""
    return {
        "id": str(id),
        "original": draft.wish.prompt,
        **{name: draft.found[name] for name in OF_INTENT},
        "techniques": [choice.as_json() for choice in draft.choices],
        "seed": draft.seed,
        "model": model,
    }


def answer_of(head: dict[str, Any], enhanced: str, usage: dict[str, int] | None = None) -> dict[str, Any]:
    return {**head, "enhanced": enhanced, "usage": usage}


def usage_of(outcome: Outcome) -> dict[str, int]:
    """As chat completions say it."""
    return {
        "prompt_tokens": outcome.input_tokens,
        "completion_tokens": outcome.output_tokens,
        "total_tokens": outcome.input_tokens + outcome.output_tokens,
    }
