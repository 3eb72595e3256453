"""Moving what is encrypted at rest to the newest key, so that an older one can be thrown away."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from cryptography.fernet import InvalidToken
from django.apps import apps
from django.db import models
from django.db.models import F, QuerySet, TextField, Value
from django.db.models.functions import Cast

from accounts import audit
from accounts.encryption import EncryptedTextField, cipher, newest_cipher

BATCH = 500
# The first byte of every Fernet token, and its shortest length in bytes: version, time, vector, one block, signature.
VERSION, SHORTEST = 0x80, 1 + 8 + 16 + 16 + 32


@dataclass(frozen=True, slots=True)
class Column:
    """One encrypted column of one model, as `accounts.user.full_name`."""

    model: type[models.Model]
    name: str

    def __str__(self) -> str:
        return f"{self.model._meta.label_lower}.{self.name}"

    def rows(self) -> QuerySet[Any]:
        """Rows with something in the column, which `raw` holds as it is stored."""
        rows: QuerySet[Any] = self.model._base_manager.annotate(raw=Cast(F(self.name), TextField()))
        return rows.exclude(raw=None).exclude(raw="").order_by("pk")


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A value that no key of FIELD_ENCRYPTION_KEYS decrypts; `why` is "no key" or "plain text"."""

    column: Column
    pk: Any
    why: str


@dataclass(slots=True)
class Rotation:
    """What came of it, in values: moved to the newest key, under it already, and not to be read."""

    rotated: dict[Column, int] = field(default_factory=dict)
    current: dict[Column, int] = field(default_factory=dict)
    unreadable: list[Unreadable] = field(default_factory=list)


def encrypted_columns() -> list[Column]:
    """Every encrypted column of every installed model."""
    return [
        Column(model, column.name)
        for model in apps.get_models()
        for column in model._meta.local_concrete_fields
        if isinstance(column, EncryptedTextField)
    ]


def count_values() -> int:
    return sum(column.rows().count() for column in encrypted_columns())


def rotate(*, dry_run: bool = False, progress: Callable[[int], object] = lambda _values: None) -> Rotation:
    """Encrypt every value anew that is not under the newest key; `progress` is told of each value.

    Each value is replaced by a statement of its own, only if it is still what was read: nothing that changes meanwhile
    is lost. What is under the newest key is skipped, so a run that was stopped is continued by the next.
    """
    done = Rotation()
    try:
        for column in encrypted_columns():
            done.rotated[column] = done.current[column] = 0
            for pk, raw in _values(column):
                _rotate_value(done, column, pk, raw, dry_run=dry_run)
                progress(1)
    finally:
        total = sum(done.rotated.values())
        if total and not dry_run:
            audit.record("encryption.keys_rotated", by=None, rotated=total, unreadable=len(done.unreadable))
    return done


def _values(column: Column) -> Iterator[tuple[Any, str]]:
    rows = column.rows().values_list("pk", "raw")
    batch = list(rows[:BATCH])
    while batch:
        yield from batch
        batch = list(rows.filter(pk__gt=batch[-1][0])[:BATCH])


def _rotate_value(done: Rotation, column: Column, pk: Any, raw: str | None, *, dry_run: bool) -> None:
    """Until the value is as it should be: whoever changed it in between may still have written with an old key."""
    while raw:
        if _is_under_newest_key(raw):
            done.current[column] += 1
            return
        try:
            new = cipher().rotate(raw.encode()).decode()
        except InvalidToken:
            done.unreadable.append(Unreadable(column, pk, "no key" if _is_token(raw) else "plain text"))
            return
        if dry_run or column.rows().filter(pk=pk, raw=raw).update(**{column.name: Value(new, TextField())}):
            done.rotated[column] += 1
            return
        raw = column.rows().filter(pk=pk).values_list("raw", flat=True).first()


def _is_under_newest_key(raw: str) -> bool:
    try:
        newest_cipher().decrypt(raw.encode())
    except InvalidToken:
        return False
    return True


def _is_token(raw: str) -> bool:
    try:
        token = base64.urlsafe_b64decode(raw.encode())
    except (binascii.Error, ValueError):
        return False
    return len(token) >= SHORTEST and token[0] == VERSION
