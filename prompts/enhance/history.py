"""Everything that writes the history of improved prompts, and with it what is known of techniques."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from accounts import audit
from accounts.caller import Caller
from accounts.exceptions import Conflict, NotFound
from accounts.ids import uuid7
from prompts.enhance import rewards
from prompts.enhance.drafting import Draft
from prompts.enhance.rewards import Sums, sums_of
from prompts.intents import patterns
from prompts.models import PromptHistory

FEEDBACK = ("rating", "thumbs", "comment", "used_it")


def record(
    *,
    user_id: UUID,
    draft: Draft,
    enhanced: str,
    id: UUID | None = None,
    model: str = "",
    request_id: UUID | None = None,
) -> PromptHistory:
    """Write down what became of a prompt, and that its techniques were used once more. It is embedded later."""
    with transaction.atomic():
        history = PromptHistory.objects.create(
            id=id or uuid7(),
            user_id=user_id,
            original=draft.wish.prompt,
            enhanced=enhanced,
            intent=draft.intent,
            confidence=draft.found["confidence"],
            techniques=[choice.as_json() for choice in draft.choices],
            seed=draft.seed,
            model=model,
            request_id=request_id,
        )
        rewards.add(intent=history.intent, slugs=slugs_of(history), sums=Sums(shown=1))
    return history


def give_feedback(*, history_id: UUID, by: Caller, **said: Any) -> PromptHistory:
    """Write the named parts of FEEDBACK; the others stay as they were. Raises `NotFound`.

    What the former feedback has added to the figures of the techniques goes, and what it says now is added.
    """
    with transaction.atomic():
        history = _locked(PromptHistory.objects.of_user(by.user_id), history_id)
        before = sums_of(history)
        for name, value in said.items():
            setattr(history, name, value)
        is_empty = history.rating is history.used_it is None and not (history.thumbs or history.comment)
        history.feedback_at = None if is_empty else timezone.now()
        history.save(update_fields=[*FEEDBACK, "feedback_at"])
        rewards.change(intent=history.intent, slugs=slugs_of(history), by=sums_of(history) - before)
    return history


def correct_intent(*, history_id: UUID, intent: str, text: str, by: Caller) -> None:
    """Give a prompt its right intent, and make `text` a pattern of it, which counts from the next prompt on.

    What the prompt has added to the figures of its techniques moves to the right intent. Raises `NotFound`,
    `InvalidInput`, and `Conflict` if it is the intent that it has.
    """
    patterns.checked_intent(intent)
    with transaction.atomic():
        history = _locked(PromptHistory.objects.all(), history_id)
        former, sums, slugs = history.intent, sums_of(history), slugs_of(history)
        if former == intent:
            raise Conflict(f"This prompt means {intent} already.", code="same_intent")
        # In the order in which others lock them, too.
        for name in sorted((former, intent)):
            if name == intent:
                rewards.add(intent=intent, slugs=slugs, sums=sums)
            else:
                rewards.change(intent=former, slugs=slugs, by=Sums() - sums)
        PromptHistory.objects.filter(pk=history_id).update(intent=intent, confidence=1.0)
        patterns.teach(text=text, intent=intent, by=by)
        audit.record("prompthistory.corrected", by=by, target=history, former=former, intent=intent)


def slugs_of(history: PromptHistory) -> list[str]:
    return [technique["name"] for technique in history.techniques]


def _locked(rows: Any, history_id: UUID) -> PromptHistory:
    found: PromptHistory | None = rows.select_for_update(no_key=True, of=("self",)).filter(pk=history_id).first()
    if found is None:
        raise NotFound
    return found
