"""Writing patterns: by operators, from files, and by correcting what was wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models.functions import Now
from pgvector.django import CosineDistance

from accounts import audit
from accounts.caller import Caller
from accounts.exceptions import Conflict, InvalidInput, NotFound
from prompts.models import IntentPattern
from prompts.models.intents import UNKNOWN

Source = IntentPattern.Source


def checked_intent(intent: str) -> str:
    """`InvalidInput` for the one name that means that there is no intent."""
    if intent == UNKNOWN:
        raise InvalidInput(f"{UNKNOWN} is what texts are called that are like no pattern.", param="intent")
    return intent


def add(
    *,
    intent: str,
    text: str,
    by: Caller,
    language: str = "en",
    is_active: bool = True,
    source: Source = Source.OPERATOR,
) -> IntentPattern:
    """A new pattern, which is embedded in the background. `Conflict` if there is one that says the same."""
    pattern = IntentPattern(
        intent=checked_intent(intent),
        text=text.strip(),
        language=language,
        is_active=is_active,
        source=source,
        created_by_id=by.user_id,
        updated_at=Now(),
    )
    with _unique(), transaction.atomic():
        pattern.save(force_insert=True)
        audit.record("intentpattern.created", by=by, target=pattern, intent=intent)
    return pattern


def change(*, pattern_id: UUID, by: Caller, **fields: Any) -> bool:
    """Write `intent`, `text`, `language` and `is_active` as given; False if the pattern says all of that already.

    Another text loses its vector and gets a new one in the background. Another intent makes it a correction.
    """
    with _unique(), transaction.atomic():
        pattern = _locked(pattern_id)
        changed = {name: value for name, value in fields.items() if getattr(pattern, name) != value}
        if not changed:
            return False
        if "text" in changed:
            changed |= {"embedding": None, "embedding_model": "", "claimed_until": None}
        if "intent" in changed:
            checked_intent(changed["intent"])
            changed["source"] = Source.CORRECTION
        IntentPattern.objects.filter(pk=pattern_id).update(**changed, updated_at=Now())
        names = sorted(set(changed) & set(fields))
        audit.record("intentpattern.updated", by=by, target=pattern, fields=names)
    return True


def correct(*, pattern_id: UUID, intent: str, by: Caller) -> None:
    """Give a pattern its right intent, which counts from the next text on.

    Where the same text has that intent already, this one is switched off. `Conflict` if it is the intent it has.
    """
    checked_intent(intent)
    with transaction.atomic():
        pattern = _locked(pattern_id)
        if pattern.intent == intent:
            raise Conflict(f"This pattern means {intent} already.", code="same_intent")
        same = IntentPattern.objects.filter(text=pattern.text, intent=intent)
        rows = IntentPattern.objects.filter(pk=pattern_id)
        if same.update(is_active=True, source=Source.CORRECTION, updated_at=Now()):
            rows.update(is_active=False, updated_at=Now())
        else:
            rows.update(intent=intent, source=Source.CORRECTION, is_active=True, updated_at=Now())
        audit.record("intentpattern.corrected", by=by, target=pattern, former=pattern.intent, intent=intent)


def teach(*, text: str, intent: str, by: Caller) -> None:
    """Let a text have this intent from now on: a pattern that says otherwise is corrected, or a new one is made."""
    text = text.strip()
    same = IntentPattern.objects.filter(text=text)
    other = same.active().exclude(intent=intent).order_by("pk").first()
    if other is not None:
        correct(pattern_id=other.pk, intent=intent, by=by)
    elif not same.filter(intent=intent).update(is_active=True, updated_at=Now()):
        add(intent=intent, text=text, by=by, source=Source.CORRECTION)


def likeliest_other_intent(*, pattern_id: UUID) -> str | None:
    """The intent of the nearest pattern that has another than this one; None if it has no vector yet."""
    pattern = IntentPattern.objects.filter(pk=pattern_id).first()
    if pattern is None or pattern.embedding is None:
        return None
    others = IntentPattern.objects.embedded_by(pattern.embedding_model).exclude(intent=pattern.intent)
    return others.order_by(CosineDistance("embedding", pattern.embedding)).values_list("intent", flat=True).first()


def _locked(pattern_id: UUID) -> IntentPattern:
    found = IntentPattern.objects.select_for_update(no_key=True, of=("self",)).filter(pk=pattern_id).first()
    if found is None:
        raise NotFound
    return found


@contextmanager
def _unique() -> Iterator[None]:
    """Turns the database's refusal of a second pattern of the same intent and text into a sentence."""
    try:
        yield
    except IntegrityError as error:
        if "intentpattern_unique" not in str(error):
            raise
        raise Conflict("There is a pattern with this intent and text already.", code="pattern_exists") from None
