"""Everything that writes folders."""

from __future__ import annotations

from itertools import islice
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from accounts import audit
from accounts.caller import Caller
from accounts.exceptions import Conflict, InvalidInput, NotAllowed, NotFound
from prompts.models import Collection, SavedPrompt
from prompts.saved import copied, neighbour_of
from prompts.tree import GAP, Tree, bring_openness_up_to_date, end_of, lock_tree, position_beside

MOST_NAME = 100
MOST_COPIED = 10_000
BATCH = 500


def visible_collection(*, user_id: UUID, collection_id: UUID) -> Collection:
    """The user's own folder, or another's that everybody may read. Else `NotFound`."""
    found = Collection.objects.visible_to(user_id).select_related("parent").filter(pk=collection_id).first()
    if found is None:
        raise NotFound("There is no such collection.")
    return found


def own_collection(*, user_id: UUID, collection_id: UUID) -> Collection:
    """The user's own folder. `NotAllowed` if it is another's that everybody may read, else `NotFound`."""
    folder = visible_collection(user_id=user_id, collection_id=collection_id)
    if folder.user_id != user_id:
        raise NotAllowed("Only its owner can change a shared collection.")
    return folder


def create_collection(*, by: Caller, name: str, parent: UUID | None = None, **fields: Any) -> Collection:
    """A new folder at the end of another; None is the top.

    `NotFound` if there is no such parent, `Conflict` if the name is taken there, and what `Tree.check_room` raises.
    """
    try:
        with transaction.atomic():
            lock_tree(by.user_id)
            folder = add_folder(Tree(by.user_id), by.user_id, name=name, parent_id=parent, **fields)
            if folder.is_shared:
                audit.record("collection.shared", by=by, target=folder)
    except IntegrityError:
        raise _taken() from None
    return folder


def add_folder(tree: Tree, user_id: UUID, *, name: str, parent_id: UUID | None, **fields: Any) -> Collection:
    """A new folder at the end of another, inside a transaction that has locked the tree."""
    parent = tree.find(parent_id, param="parent") if parent_id else None
    tree.check_room(parent_id)
    folder = Collection(user_id=user_id, name=name, parent=parent, **fields)
    folder.position = max((child.position for child in tree.children(parent_id)), default=0) + GAP
    folder.is_open = folder.is_shared or (parent is not None and parent.is_open)
    folder.save(force_insert=True)
    tree.add(folder)
    return folder


def change_collection(*, collection_id: UUID, by: Caller, **fields: Any) -> Collection:
    """Change the caller's own folder. With another `parent`, it goes to the end of that. `Conflict` as when made."""
    try:
        with transaction.atomic():
            lock_tree(by.user_id)
            folder = own_collection(user_id=by.user_id, collection_id=collection_id)
            was_shared, parent_id = folder.is_shared, fields.pop("parent", folder.parent_id)
            for name, value in fields.items():
                setattr(folder, name, value)
            if has_moved := parent_id != folder.parent_id:
                _put_at_end(folder, parent_id)
            folder.save(update_fields=[*(set(fields) - {"is_shared"}), "parent", "position", "updated_at"])
            if has_moved or folder.is_shared != was_shared:
                _share(folder)
            if folder.is_shared != was_shared:
                audit.record(f"collection.{'shared' if folder.is_shared else 'unshared'}", by=by, target=folder)
    except IntegrityError:
        raise _taken() from None
    return folder


def move_collection(*, collection_id: UUID, by: Caller, **place: UUID | None) -> Collection:
    """Put a folder with all that is in it in its place: right `before` or `after` another, or at the end of `parent`.

    As for prompts. `InvalidInput` if it would be inside itself or too deep, `Conflict` if its name is taken there.
    """
    neighbour_id, is_before = neighbour_of(place, own=collection_id)
    try:
        with transaction.atomic():
            lock_tree(by.user_id)
            folder = own_collection(user_id=by.user_id, collection_id=collection_id)
            former_id = folder.parent_id
            if neighbour_id is None:
                _put_at_end(folder, place.get("parent", folder.parent_id))
            else:
                tree = Tree(by.user_id)
                neighbour = tree.find(neighbour_id, param="before" if is_before else "after")
                if place.get("parent", neighbour.parent_id) != neighbour.parent_id:
                    raise InvalidInput("The collection beside is in another one.", param="parent")
                tree.check_room(neighbour.parent_id, moved=folder.pk)
                siblings = _folders_in(by.user_id, neighbour.parent_id).exclude(pk=folder.pk)
                folder.position = position_beside(siblings, neighbour, is_before=is_before)
                folder.parent_id = neighbour.parent_id
            folder.save(update_fields=["parent", "position"])
            if folder.parent_id != former_id:
                _share(folder)
    except IntegrityError:
        raise _taken() from None
    return folder


def delete_collection(*, collection_id: UUID, by: Caller, is_recursive: bool = False) -> None:
    """Take an empty folder away; with `is_recursive`, also one that holds something, and all that is in it.

    `Conflict` if it is not empty, and nobody has said that it may be.
    """
    with transaction.atomic():
        lock_tree(by.user_id)
        folder = own_collection(user_id=by.user_id, collection_id=collection_id)
        folders = [folder.pk, *(child.pk for child in Tree(by.user_id).below(folder.pk))]
        prompts = SavedPrompt.objects.filter(collection__in=folders)
        count = prompts.count()
        if (count or folders[1:]) and not is_recursive:
            raise Conflict(
                "The collection is not empty. With ?recursive=true, what is in it is deleted, too.",
                code="collection_not_empty",
            )
        prompts.delete()
        Collection.objects.filter(pk__in=folders).delete()
        audit.record("collection.deleted", by=by, target=folder, prompts=count, collections=len(folders))


def duplicate_collection(*, folder: Collection, by: Caller, parent: UUID | None = None) -> Collection:
    """A copy of a folder with all that is in it, which is the caller's and shared with nobody.

    Where its name is taken, the copy gets a number. `Conflict` if there is too much in it or too many folders,
    `InvalidInput` if the copy would be too deep.
    """
    with transaction.atomic():
        lock_tree(by.user_id)
        source, tree = Tree(folder.user_id), Tree(by.user_id)
        copied_folders = list(source.below(folder.pk))
        sources = [folder.pk, *(below.pk for below in copied_folders)]
        if SavedPrompt.objects.filter(collection__in=sources).count() > MOST_COPIED:
            raise Conflict(f"There are more than {MOST_COPIED:,} prompts in it.", code="too_many_prompts")
        names = {child.name for child in tree.children(parent)}
        made = add_folder(
            tree, by.user_id, name=_free_name(folder.name, names), parent_id=parent, description=folder.description
        )
        copies = {folder.pk: made}
        for original in copied_folders:
            assert original.parent_id is not None
            copies[original.pk] = add_folder(
                tree,
                by.user_id,
                name=original.name,
                parent_id=copies[original.parent_id].pk,
                description=original.description,
            )
        _copy_prompts(copies, by.user_id)
    return made


def _copy_prompts(copies: dict[UUID, Collection], user_id: UUID) -> None:
    """What is in folders, in their copies."""
    originals = SavedPrompt.objects.filter(collection__in=list(copies)).order_by("position", "id")
    prompts = (_copy_of(prompt, copies, user_id) for prompt in originals.iterator(BATCH))
    while batch := list(islice(prompts, BATCH)):
        SavedPrompt.objects.bulk_create(batch)


def _copy_of(prompt: SavedPrompt, copies: dict[UUID, Collection], user_id: UUID) -> SavedPrompt:
    assert prompt.collection_id is not None
    folder = copies[prompt.collection_id]
    place = {"collection": folder, "position": prompt.position, "is_open": folder.is_open}
    return SavedPrompt(user_id=user_id, title=prompt.title, **place, **copied(prompt))


def _free_name(name: str, taken: set[str]) -> str:
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name[: MOST_NAME - 7]} ({number})"
    return free


def _folders_in(user_id: UUID, parent_id: UUID | None) -> QuerySet[Collection]:
    return Collection.objects.filter(user_id=user_id, parent=parent_id)


def _put_at_end(folder: Collection, parent_id: UUID | None) -> None:
    tree = Tree(folder.user_id)
    if parent_id is not None:
        tree.find(parent_id, param="parent")
    tree.check_room(parent_id, moved=folder.pk)
    folder.parent_id = parent_id
    folder.position = end_of(_folders_in(folder.user_id, parent_id).exclude(pk=folder.pk))


def _share(folder: Collection) -> None:
    """Keep with whom it is shared, and let everything in it follow."""
    Collection.objects.filter(pk=folder.pk).update(is_shared=folder.is_shared, is_open=True)
    bring_openness_up_to_date(folder.user_id)
    folder.refresh_from_db(fields=["is_open"])


def _taken() -> Conflict:
    return Conflict("There is a collection of this name already.", code="name_taken", param="name")
