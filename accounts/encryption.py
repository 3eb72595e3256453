"""Encryption at rest for chosen columns: MultiFernet with keys of its own, so SECRET_KEY can change freely."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import models


@lru_cache(maxsize=4)
def _cipher(keys: tuple[str, ...]) -> MultiFernet:
    try:
        return MultiFernet([Fernet(key) for key in keys])
    except ValueError:
        raise ImproperlyConfigured(
            "FIELD_ENCRYPTION_KEYS must hold comma-separated Fernet keys (32 bytes, URL-safe base64), newest first."
        ) from None


def cipher() -> MultiFernet:
    return _cipher(tuple(settings.FIELD_ENCRYPTION_KEYS))


def newest_cipher() -> MultiFernet:
    """With the first key alone: it writes what `cipher` writes, and reads only what is under that key."""
    return _cipher(tuple(settings.FIELD_ENCRYPTION_KEYS[:1]))


class EncryptedTextField(models.TextField):  # type: ignore[type-arg]
    """Text that is readable in Python and unreadable in the database and its dumps. It cannot be filtered by."""

    def get_prep_value(self, value: Any) -> Any:
        if value is None or value == "":
            return value
        return cipher().encrypt(str(value).encode()).decode()

    def from_db_value(self, value: str | None, *_args: object) -> str | None:
        if not value:
            return value
        try:
            return cipher().decrypt(value.encode()).decode()
        except InvalidToken:
            raise ImproperlyConfigured(
                f"A value of {self.model.__name__}.{self.name} was encrypted with a key that is not in "
                "FIELD_ENCRYPTION_KEYS."
            ) from None
