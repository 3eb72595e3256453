"""What becomes of a user's saved prompts, and of the patterns that a user has written."""

from uuid import UUID

from django.db.models import QuerySet

from accounts.belongings import Belonging, Erase
from prompts.models import IntentPattern, SavedPrompt


def _written_by(user_id: UUID) -> QuerySet[IntentPattern]:
    return IntentPattern.objects.filter(created_by_id=user_id)


def _hand_over(source_id: UUID, target_id: UUID) -> None:
    _written_by(source_id).update(created_by_id=target_id)


def _forget_who(user_id: UUID) -> None:
    """The patterns stay: they are the installation's, and are about nobody."""
    _written_by(user_id).update(created_by_id=None)


BELONGINGS = [
    Belonging(
        model=SavedPrompt,
        section="saved_prompts",
        fields=("id", "title", "content", "is_favourite", "created_at", "updated_at"),
        erase=Erase.DELETE,
    ),
    Belonging(
        model=IntentPattern,
        section="intent_patterns",
        fields=("id", "intent", "text", "language", "source", "is_active", "created_at"),
        rows=_written_by,
        merge=_hand_over,
        erase=_forget_who,
    ),
]
