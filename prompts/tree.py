"""The tree of a user's folders: its lock, its shape, who else may read what is in it, and the order in each folder.

Whoever writes folders, the place of prompts, or with whom they are shared, holds the lock of their user. So the rules
that span rows hold: no folder is inside itself, all in a tree is one user's, and moves follow one another.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import Max, Q, QuerySet

from accounts.exceptions import Conflict, InvalidInput, NotAuthenticated, NotFound
from prompts.models import Collection, SavedPrompt

# Between neighbours, so that a move seldom touches other rows.
GAP = 1 << 16
MOST_FOLDERS = 1000
MOST_DEPTH = 8


def lock_tree(user_id: UUID) -> None:
    """Keep everybody else from writing the user's tree until the transaction ends.

    It is the user's row that is locked, as merging and erasing lock it. `NotAuthenticated` if the user is not active.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT is_active FROM accounts_user WHERE id = %s FOR NO KEY UPDATE", [user_id])
        found = cursor.fetchone()
    if found is None or not found[0]:
        raise NotAuthenticated("This account is not active.", code="account_inactive")


class Tree:
    """The folders of a user as they are now. To be relied on, it is read under the lock."""

    def __init__(self, user_id: UUID) -> None:
        folders = Collection.objects.filter(user_id=user_id).order_by("position", "id")
        self.folders: dict[UUID, Collection] = {folder.pk: folder for folder in folders}
        self._children: dict[UUID | None, list[Collection]] = {}
        for folder in self.folders.values():
            self._children.setdefault(folder.parent_id, []).append(folder)

    def find(self, folder_id: UUID, *, param: str = "collection") -> Collection:
        """`NotFound` if the user has no such folder."""
        folder = self.folders.get(folder_id)
        if folder is None:
            raise NotFound("There is no such collection.", code="collection_not_found", param=param)
        return folder

    def children(self, folder_id: UUID | None) -> list[Collection]:
        """In their order; of None, those at the top."""
        return self._children.get(folder_id, [])

    def below(self, folder_id: UUID | None) -> Iterator[Collection]:
        """All folders in a folder, each before what is in it, in their order."""
        for child in self.children(folder_id):
            yield child
            yield from self.below(child.pk)

    def path(self, folder_id: UUID | None, *, since: UUID | None = None) -> list[str]:
        """The names from the top, or from below the folder `since`, down to a folder."""
        names: list[str] = []
        while folder_id is not None and folder_id != since:
            folder = self.folders[folder_id]
            names.insert(0, folder.name)
            folder_id = folder.parent_id
        return names

    def add(self, folder: Collection) -> None:
        """Know a folder that was just made, at the end of the one that it is in."""
        self.folders[folder.pk] = folder
        self._children.setdefault(folder.parent_id, []).append(folder)

    def check_room(self, parent_id: UUID | None, *, moved: UUID | None = None) -> None:
        """Whether a new folder, or the one that is moved with all in it, may be put in a folder.

        `InvalidInput` if the tree became too deep, or the folder would be inside itself; `Conflict` if there are too
        many.
        """
        if moved is None and len(self.folders) >= MOST_FOLDERS:
            raise Conflict(f"There are {MOST_FOLDERS:,} collections already.", code="too_many_collections")
        inside = {moved, *(folder.pk for folder in self.below(moved))} if moved else set()
        if parent_id in inside:
            raise InvalidInput("A collection cannot be inside itself.", code="collection_cycle", param="parent")
        if len(self.path(parent_id)) + (self._height(moved) if moved else 1) > MOST_DEPTH:
            raise InvalidInput(f"Collections are at most {MOST_DEPTH} deep.", code="too_deep", param="parent")

    def _height(self, folder_id: UUID) -> int:
        return 1 + max((self._height(child.pk) for child in self.children(folder_id)), default=0)


def folder_of(user_id: UUID, folder_id: UUID | None) -> Collection | None:
    """The user's folder; None is the top. `NotFound` if there is none."""
    if folder_id is None:
        return None
    folder = Collection.objects.filter(user_id=user_id, pk=folder_id).first()
    if folder is None:
        raise NotFound("There is no such collection.", code="collection_not_found", param="collection")
    return folder


def bring_openness_up_to_date(user_id: UUID) -> None:
    """Let `is_open` follow from what is shared, after a folder was shared, moved or merged."""
    tree = Tree(user_id)
    opened: set[UUID] = set()
    for folder in tree.below(None):
        if folder.is_shared or folder.parent_id in opened:
            opened.add(folder.pk)
    folders = Collection.objects.filter(user_id=user_id)
    folders.filter(pk__in=opened, is_open=False).update(is_open=True)
    folders.filter(is_open=True).exclude(pk__in=opened).update(is_open=False)
    prompts = SavedPrompt.objects.filter(user_id=user_id)
    prompts.filter(Q(is_shared=True) | Q(collection__in=opened), is_open=False).update(is_open=True)
    is_outside = Q(collection=None) | ~Q(collection__in=opened)
    prompts.filter(is_outside, is_open=True, is_shared=False).update(is_open=False)


# The order in a folder -----------------------------------------------------------------------------------------------


def end_of(rows: QuerySet[Any]) -> int:
    """The position behind all rows of a folder."""
    last: int | None = rows.aggregate(last=Max("position"))["last"]
    return (last or 0) + GAP


def position_beside(rows: QuerySet[Any], neighbour: Collection | SavedPrompt, *, is_before: bool) -> int:
    """The position right before or behind one of the rows of a folder; if there is none, room is made."""
    for _ in range(2):
        near, far = neighbour.position, _next_position(rows, neighbour, is_before)
        if abs(far - near) > 1:
            return (near + far) // 2
        renumber(rows)
        neighbour.refresh_from_db(fields=["position"])
    raise AssertionError("renumbered rows have room between them")


def _next_position(rows: QuerySet[Any], neighbour: Collection | SavedPrompt, is_before: bool) -> int:
    """The position of the row beyond the neighbour; if there is none, one that is far enough away."""
    at, pk = neighbour.position, neighbour.pk
    if is_before:
        beyond = rows.filter(Q(position__lt=at) | Q(position=at, pk__lt=pk)).order_by("-position", "-pk")
    else:
        beyond = rows.filter(Q(position__gt=at) | Q(position=at, pk__gt=pk)).order_by("position", "pk")
    found: int | None = beyond.values_list("position", flat=True).first()
    if found is None:
        return int(at) + (-2 * GAP if is_before else 2 * GAP)
    return found


def renumber(rows: QuerySet[Any]) -> None:
    """Give the rows of a folder even gaps, in the order that they have."""
    ordered = list(rows.order_by("position", "pk").only("pk", "position"))
    for number, row in enumerate(ordered, start=1):
        row.position = number * GAP
    rows.model._default_manager.bulk_update(ordered, ["position"], batch_size=1000)
