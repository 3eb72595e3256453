"""Everything that writes saved prompts."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet

from accounts import audit
from accounts.caller import Caller
from accounts.exceptions import InvalidInput, NotAllowed, NotFound
from prompts.exceptions import TemplateError
from prompts.markup import Value, parse
from prompts.models import Collection, SavedPrompt
from prompts.tree import end_of, folder_of, lock_tree, position_beside

MOST_TITLE = 200
MOST_TAGS = 20
COPY = " (copy)"


def visible_prompt(*, user_id: UUID, prompt_id: UUID) -> SavedPrompt:
    """The user's own prompt, or another's that everybody may read. Else `NotFound`."""
    found = SavedPrompt.objects.visible_to(user_id).select_related("collection").filter(pk=prompt_id).first()
    if found is None:
        raise NotFound("There is no such prompt.")
    return found


def own_prompt(*, user_id: UUID, prompt_id: UUID) -> SavedPrompt:
    """The user's own prompt. `NotAllowed` if it is another's that everybody may read, else `NotFound`."""
    prompt = visible_prompt(user_id=user_id, prompt_id=prompt_id)
    if prompt.user_id != user_id:
        raise NotAllowed("Only its owner can change a shared prompt.")
    return prompt


def prompts_in(user_id: UUID, folder_id: UUID | None) -> QuerySet[SavedPrompt]:
    """Those of one folder of the user; None is the top."""
    return SavedPrompt.objects.filter(user_id=user_id, collection=folder_id)


def create_prompt(*, by: Caller, collection: UUID | None = None, **fields: Any) -> SavedPrompt:
    """A new prompt at the end of a folder; None is the top. `NotFound` if there is no such folder."""
    with transaction.atomic():
        lock_tree(by.user_id)
        prompt = SavedPrompt(user_id=by.user_id, **fields)
        _put_at_end(prompt, folder_of(by.user_id, collection))
        prompt.save(force_insert=True)
        if prompt.is_shared:
            audit.record("saved_prompt.shared", by=by, target=prompt)
    return prompt


def change_prompt(*, prompt_id: UUID, by: Caller, **fields: Any) -> SavedPrompt:
    """Change the caller's own prompt. With another `collection`, it goes to the end of that."""
    with transaction.atomic():
        lock_tree(by.user_id)
        prompt = own_prompt(user_id=by.user_id, prompt_id=prompt_id)
        was_shared, folder_id = prompt.is_shared, fields.pop("collection", prompt.collection_id)
        for name, value in fields.items():
            setattr(prompt, name, value)
        if folder_id != prompt.collection_id:
            _put_at_end(prompt, folder_of(by.user_id, folder_id))
        prompt.is_open = _is_open(prompt)
        prompt.save(update_fields=[*fields, "collection", "position", "is_open", "updated_at"])
        if prompt.is_shared != was_shared:
            audit.record(f"saved_prompt.{'shared' if prompt.is_shared else 'unshared'}", by=by, target=prompt)
    return prompt


def move_prompt(*, prompt_id: UUID, by: Caller, **place: UUID | None) -> SavedPrompt:
    """Put a prompt in its place: right `before` or `after` another one, or else at the end of `collection`.

    `collection` None is the top; if it is not named, it is that of the neighbour, or the one where the prompt is.
    Moves of one user follow one another, each in the order that the one before has left. `NotFound`, `InvalidInput`.
    """
    neighbour_id, is_before = neighbour_of(place, own=prompt_id)
    with transaction.atomic():
        lock_tree(by.user_id)
        prompt = own_prompt(user_id=by.user_id, prompt_id=prompt_id)
        if neighbour_id is None:
            _put_at_end(prompt, folder_of(by.user_id, place.get("collection", prompt.collection_id)))
        else:
            neighbour = _neighbour(by.user_id, neighbour_id, "before" if is_before else "after")
            if place.get("collection", neighbour.collection_id) != neighbour.collection_id:
                raise InvalidInput("The prompt beside is in another collection.", param="collection")
            siblings = prompts_in(by.user_id, neighbour.collection_id).exclude(pk=prompt_id)
            prompt.position = position_beside(siblings, neighbour, is_before=is_before)
            prompt.collection = neighbour.collection
        prompt.is_open = _is_open(prompt)
        prompt.save(update_fields=["collection", "position", "is_open"])
    return prompt


def neighbour_of(place: dict[str, UUID | None], *, own: UUID) -> tuple[UUID | None, bool]:
    """Whom a row is put beside, and whether before it. `InvalidInput` if that is no place."""
    before, after = place.get("before"), place.get("after")
    if before and after:
        raise InvalidInput("A place is before one or after one, not both.", param="after")
    if own in {before, after}:
        raise InvalidInput("Nothing has a place beside itself.", param="before" if before else "after")
    return before or after, before is not None


def delete_prompt(*, prompt_id: UUID, by: Caller) -> None:
    """Take the caller's own prompt away, and the links that lead to it."""
    with transaction.atomic():
        lock_tree(by.user_id)
        own_prompt(user_id=by.user_id, prompt_id=prompt_id).delete()


def duplicate_prompt(*, prompt: SavedPrompt, by: Caller, collection: UUID | None = None) -> SavedPrompt:
    """A copy that is the caller's, shared with nobody. Of an own one the title says that it is a copy."""
    title = prompt.title
    if prompt.user_id == by.user_id:
        title = f"{title[: MOST_TITLE - len(COPY)]}{COPY}"
    return create_prompt(by=by, collection=collection, title=title, **copied(prompt))


def copied(prompt: SavedPrompt) -> dict[str, Any]:
    """What a copy has of a prompt, beside the title."""
    return {"description": prompt.description, "content": prompt.content, "tags": list(prompt.tags)}


def variables_of(content: str) -> list[str]:
    """The names of the `{{variables}}` in a text, in order; none if it is no template."""
    try:
        return list(dict.fromkeys(piece.name for piece in parse(content) if isinstance(piece, Value)))
    except TemplateError:
        return []


def _neighbour(user_id: UUID, prompt_id: UUID, param: str) -> SavedPrompt:
    found = SavedPrompt.objects.filter(user_id=user_id, pk=prompt_id).select_related("collection").first()
    if found is None:
        raise NotFound("There is no such prompt.", param=param)
    return found


def _put_at_end(prompt: SavedPrompt, folder: Collection | None) -> None:
    prompt.collection = folder
    prompt.position = end_of(prompts_in(prompt.user_id, folder.pk if folder else None))
    prompt.is_open = _is_open(prompt)


def _is_open(prompt: SavedPrompt) -> bool:
    return prompt.is_shared or (prompt.collection is not None and prompt.collection.is_open)
