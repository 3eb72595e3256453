"""Everything that writes the history of improved prompts, and with it what is known of techniques."""

from __future__ import annotations

from collections import Counter
from itertools import chain
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from accounts import audit
from accounts.caller import Caller
from accounts.exceptions import Conflict, NotFound
from accounts.ids import uuid7
from accounts.models import User
from prompts.enhance import rewards
from prompts.enhance.drafting import Draft
from prompts.enhance.rewards import MOST_COUNTED, Sums, reward_of, sums_of
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
            is_experiment=draft.is_experiment,
            request_id=request_id,
        )
        rewards.add(intent=history.intent, slugs=slugs_of(history), sums=Sums(shown=1))
    return history


def give_feedback(*, history_id: UUID, by: Caller, **said: Any) -> PromptHistory:
    """Write the named parts of FEEDBACK; the others stay as they were. Raises `NotFound`.

    What the former feedback has added to the figures of the techniques goes, and what it says now is added, if it
    counts (`_counted`).
    """
    with transaction.atomic():
        history = _locked(PromptHistory.objects.of_user(by.user_id), history_id)
        before, counted = _added(history), history.counted
        for name, value in said.items():
            setattr(history, name, value)
        is_empty = history.rating is history.used_it is None and not (history.thumbs or history.comment)
        history.feedback_at = None if is_empty else timezone.now()
        history.counted = _counted(history)
        history.save(update_fields=[*FEEDBACK, "feedback_at", "counted"])
        rewards.change(
            intent=history.intent,
            slugs=slugs_of(history),
            counted=counted or history.counted,
            by=_added(history) - before,
        )
    return history


def delete(*, history_id: UUID, by: Caller) -> None:
    """Take a prompt of the caller's away, and what was said of it. Raises `NotFound`.

    If it went on counting, who deletes and judges again would count as often as they like.
    """
    with transaction.atomic():
        history = _locked(PromptHistory.objects.of_user(by.user_id), history_id)
        by_judgement = Sums(shown=1) - _added(history)
        rewards.change(intent=history.intent, slugs=slugs_of(history), counted=history.counted, by=by_judgement)
        history.delete()


def correct_intent(*, history_id: UUID, intent: str, text: str, by: Caller) -> None:
    """Give a prompt its right intent, and make `text` a pattern of it, which counts from the next prompt on.

    What the prompt has added to the figures of its techniques moves to the right intent, if its user has room there.
    Raises `NotFound`, `InvalidInput`, and `Conflict` if it is the intent that it has.
    """
    patterns.checked_intent(intent)
    with transaction.atomic():
        history = _locked(PromptHistory.objects.all(), history_id)
        former, sums, slugs, counted = history.intent, sums_of(history), slugs_of(history), history.counted
        if former == intent:
            raise Conflict(f"This prompt means {intent} already.", code="same_intent")
        history.intent, history.confidence, history.counted = intent, 1.0, []
        history.counted = _counted(history)
        # In the order in which others lock them, too.
        for name in sorted((former, intent)):
            if name == intent:
                rewards.add(intent=intent, slugs=slugs, sums=sums, counted=history.counted)
            else:
                rewards.change(intent=former, slugs=slugs, by=Sums() - sums, counted=counted)
        history.save(update_fields=["intent", "confidence", "counted"])
        patterns.teach(text=text, intent=intent, by=by)
        audit.record("prompthistory.corrected", by=by, target=history, former=former, intent=intent)


def slugs_of(history: PromptHistory) -> list[str]:
    return [technique["name"] for technique in history.techniques]


def _added(history: PromptHistory) -> Sums:
    """What the figures of the techniques for which it counts hold of it."""
    return sums_of(history) if history.counted else Sums(shown=1)


def _counted(history: PromptHistory) -> list[str]:
    """The techniques for which its judgement counts: those for which fewer than MOST_COUNTED others of its user do.

    Once it counts, it goes on until the judgement is taken back. The user must be locked.
    """
    if not history.is_experiment or reward_of(history) is None:
        return []
    if history.counted:
        return history.counted
    others = PromptHistory.objects.of_user(history.user_id).filter(intent=history.intent).exclude(counted=[])
    taken = Counter(chain.from_iterable(others.exclude(pk=history.pk).values_list("counted", flat=True)))
    return [slug for slug in slugs_of(history) if taken[slug] < MOST_COUNTED]


def _locked(rows: Any, history_id: UUID) -> PromptHistory:
    """The row, and before it its user: what is judged at once must not count more than is allowed."""
    owner = rows.filter(pk=history_id).order_by().values("user_id")
    list(User.objects.select_for_update(no_key=True).filter(pk__in=owner).values_list("pk"))
    found: PromptHistory | None = rows.select_for_update(no_key=True, of=("self",)).filter(pk=history_id).first()
    if found is None:
        raise NotFound
    return found
