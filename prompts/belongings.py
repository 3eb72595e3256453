"""What becomes of all that a user has kept here, and of the patterns that a user has written."""

from __future__ import annotations

from uuid import UUID

from django.db.models import QuerySet
from django.utils import timezone

from accounts.belongings import Belonging, Erase, Part
from prompts.collections import MOST_NAME
from prompts.models import (
    Collection,
    IntentPattern,
    PromptHistory,
    PromptTemplate,
    PromptVersion,
    SavedPrompt,
    ShareLink,
)


def _merge_collections(source_id: UUID, target_id: UUID) -> None:
    """Where both have a folder of one name at the top, the target's keeps it, and the source's gets another."""
    theirs = Collection.objects.filter(user_id=source_id)
    taken = Collection.objects.filter(user_id=target_id, parent=None).values("name")
    for folder in theirs.filter(parent=None, name__in=taken).order_by("pk"):
        folder.name = f"{folder.name[: MOST_NAME - 15]} ({folder.pk.hex[-12:]})"
        folder.save(update_fields=["name", "updated_at"])
    theirs.update(user_id=target_id)


def _merge_templates(source_id: UUID, target_id: UUID) -> None:
    """Where both have a name, the target's template keeps it, and the source's gets another."""
    taken = set(PromptTemplate.objects.alive().filter(user_id=target_id).values_list("name", flat=True))
    for template in PromptTemplate.objects.alive().filter(user_id=source_id, name__in=taken).order_by("pk"):
        template.name = f"{template.name[:50]}-{template.pk.hex[-12:]}"
        template.save(update_fields=["name", "updated_at"])
    PromptTemplate.objects.filter(user_id=source_id).update(user_id=target_id)


def _erase_templates(user_id: UUID) -> None:
    """The database lets versions go with templates that are deleted already."""
    theirs = PromptTemplate.objects.filter(user_id=user_id)
    theirs.update(deleted_at=timezone.now())
    theirs.delete()


def _written_by(user_id: UUID) -> QuerySet[IntentPattern]:
    return IntentPattern.objects.filter(created_by_id=user_id)


def _hand_over(source_id: UUID, target_id: UUID) -> None:
    _written_by(source_id).update(created_by_id=target_id)


def _forget_who(user_id: UUID) -> None:
    """The patterns stay: they are the installation's, and are about nobody."""
    _written_by(user_id).update(created_by_id=None)


BELONGINGS = [
    Belonging(
        model=PromptHistory,
        section="prompt_history",
        page=100,
        fields=(
            *("id", "original", "enhanced", "intent", "confidence", "techniques", "model", "request_id"),
            *("rating", "thumbs", "comment", "used_it", "feedback_at", "is_experiment", "counted", "created_at"),
        ),
        erase=Erase.DELETE,
    ),
    Belonging(
        model=SavedPrompt,
        section="saved_prompts",
        fields=(
            *("id", "title", "description", "content", "tags", "collection", "position", "is_favourite", "is_shared"),
            *("created_at", "updated_at"),
        ),
        erase=Erase.DELETE,
    ),
    Belonging(
        model=Collection,
        section="prompt_collections",
        fields=("id", "name", "description", "parent", "position", "is_shared", "created_at", "updated_at"),
        merge=_merge_collections,
        erase=Erase.DELETE,
    ),
    Belonging(
        model=ShareLink,
        section="share_links",
        fields=(
            *("id", "prompt", "collection", "prefix", "expires_at", "revoked_at", "last_used_at", "use_count"),
            "created_at",
        ),
        erase=Erase.DELETE,
    ),
    Belonging(
        model=PromptTemplate,
        section="prompt_templates",
        fields=(
            *("id", "name", "description", "tags", "is_shared", "protected_labels"),
            *("created_at", "updated_at", "deleted_at"),
        ),
        part=Part(
            name="versions",
            model=PromptVersion,
            parent="template_id",
            fields=("id", "number", "content", "variables", "commit_message", "created_at"),
        ),
        merge=_merge_templates,
        erase=_erase_templates,
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
