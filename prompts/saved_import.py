"""Bringing saved prompts in from a file: whole or not at all, unless somebody asks for the good rows alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from uuid import UUID

from django.db import transaction

from accounts import audit
from accounts.caller import Caller
from accounts.exceptions import Conflict, InvalidInput
from accounts.models import User
from prompts.collections import MOST_NAME, add_folder
from prompts.exceptions import ImportRefused, RowError
from prompts.models import Collection, SavedPrompt
from prompts.saved import prompts_in
from prompts.saved_rows import PromptFile, PromptRow, read_file
from prompts.tree import GAP, Tree, end_of, lock_tree

BATCH = 500
MOST_SHOWN = 1000

Say = Callable[[int, int], object]
# Folder, title and content: what is the same in these is there already.
Key = tuple[UUID | None, str, str]


@dataclass(slots=True)
class Imported:
    """What has become of a file. `errors` are the first MOST_SHOWN of those that `failed` counts."""

    imported: int = 0
    skipped: int = 0
    failed: int = 0
    collections: int = 0
    errors: list[RowError] = field(default_factory=list)
    ignored_columns: list[str] = field(default_factory=list)


def import_prompts(
    *,
    user_id: UUID,
    by: Caller | User | None,
    data: bytes,
    is_partial: bool = False,
    collection: UUID | None = None,
    into: str = "",
    say: Say | None = None,
) -> Imported:
    """Keep the prompts of a file for a user, in the folders that it names; those are made if they are not there.

    The paths begin in `collection`, or in the folder called `into` at the top, or at the top. What is there already
    (the same title and text in the same folder) is skipped, so a file that is imported twice adds nothing. `say` hears
    how many rows more are done, of how many. `ImportRefused` if rows are broken and not `is_partial`; `InvalidInput`
    and `BodyTooLarge` as `read_file` raises them; `NotFound` if there is no such collection.
    """
    if len(into) > MOST_NAME:
        raise InvalidInput(f"The name of a collection has at most {MOST_NAME} characters.", param="collection")
    file = read_file(data)
    if file.errors and not is_partial:
        raise _refused(file.errors)
    with transaction.atomic():
        lock_tree(user_id)
        done = _Import(user_id, file, collection, (into,) if into else ()).run(say)
        if done.errors and not is_partial:
            raise _refused(done.errors)
        audit.record("saved_prompt.imported", by=by, imported=done.imported, skipped=done.skipped, user=str(user_id))
    done.failed, done.errors = len(done.errors), done.errors[:MOST_SHOWN]
    return done


def _refused(errors: list[RowError]) -> ImportRefused:
    return ImportRefused(errors[:MOST_SHOWN], count=len(errors))


class _Import:
    """One file on its way into one tree, which is locked."""

    def __init__(self, user_id: UUID, file: PromptFile, base_id: UUID | None, above: tuple[str, ...]) -> None:
        self.user_id, self.file, self.above = user_id, file, above
        self.tree = Tree(user_id)
        self.base_id = self.tree.find(base_id).pk if base_id else None
        self.folders: dict[tuple[str, ...], UUID | None] = {(): self.base_id}
        # Rows that are the same within a file are all kept, as the export of such prompts wrote them.
        self.added: set[Key] = set()
        self.next_positions: dict[UUID | None, int] = {}
        self.done = Imported(errors=list(file.errors), ignored_columns=file.ignored)

    def run(self, say: Say | None) -> Imported:
        for path in self.file.folders:
            try:
                self._folder(self.above + path)
            except (InvalidInput, Conflict) as error:
                raise InvalidInput(f"{'/'.join(path)}: {error}", code=error.code, param="collections") from None
        for batch in _batches(self.file.rows):
            self._keep(batch)
            if say:
                say(len(batch), len(self.file.rows))
        self.done.errors.sort(key=lambda error: error.row)
        return self.done

    def _keep(self, rows: list[PromptRow]) -> None:
        there = self._there(rows)
        new: list[SavedPrompt] = []
        for row in rows:
            try:
                folder_id = self._folder(self.above + row.folder)
            except (InvalidInput, Conflict) as error:
                self.done.errors.append(RowError(row.number, f"collection: {error}", error.code))
                continue
            key = (folder_id, row.title, row.content)
            if key in there and key not in self.added:
                self.done.skipped += 1
                continue
            self.added.add(key)
            new.append(self._prompt(row, folder_id))
        SavedPrompt.objects.bulk_create(new)
        self.done.imported += len(new)

    def _there(self, rows: list[PromptRow]) -> set[Key]:
        """What of these the user has, that which came with this file included."""
        same = SavedPrompt.objects.filter(user_id=self.user_id, title__in={row.title for row in rows})
        return set(same.values_list("collection_id", "title", "content"))

    def _prompt(self, row: PromptRow, folder_id: UUID | None) -> SavedPrompt:
        folder = self.tree.folders[folder_id] if folder_id else None
        return SavedPrompt(
            user_id=self.user_id,
            collection=folder,
            title=row.title,
            content=row.content,
            description=row.description,
            tags=row.tags,
            is_favourite=row.is_favourite,
            position=self._next_position(folder_id),
            is_open=folder is not None and folder.is_open,
        )

    def _next_position(self, folder_id: UUID | None) -> int:
        if folder_id not in self.next_positions:
            self.next_positions[folder_id] = end_of(prompts_in(self.user_id, folder_id))
        position = self.next_positions[folder_id]
        self.next_positions[folder_id] += GAP
        return position

    def _folder(self, path: tuple[str, ...]) -> UUID | None:
        """The folder of a path; what is not there is made."""
        if path in self.folders:
            return self.folders[path]
        parent_id = self._folder(path[:-1])
        folder = next((child for child in self.tree.children(parent_id) if child.name == path[-1]), None)
        if folder is None:
            folder = self._new_folder(path, parent_id)
        self.folders[path] = folder.pk
        return folder.pk

    def _new_folder(self, path: tuple[str, ...], parent_id: UUID | None) -> Collection:
        description = self.file.folders.get(path[len(self.above) :], "") if len(path) > len(self.above) else ""
        folder = add_folder(self.tree, self.user_id, name=path[-1], parent_id=parent_id, description=description)
        self.done.collections += 1
        return folder


def _batches(rows: list[PromptRow]) -> Iterator[list[PromptRow]]:
    for start in range(0, len(rows), BATCH):
        yield rows[start : start + BATCH]
