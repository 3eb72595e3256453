"""What Django's own password validators and hashers leave open."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.hashers import BCryptPasswordHasher
from django.core.exceptions import ValidationError

# Characters. Nobody types more, and a hash of megabytes costs whoever is asked for it.
LONGEST = 1024
BCRYPT_BYTES = 72


class MaximumLengthValidator:
    def validate(self, password: str, user: Any = None) -> None:
        if len(password) > LONGEST:
            raise ValidationError(
                f"This password is too long. It may have at most {LONGEST:,} characters.", code="password_too_long"
            )

    def get_help_text(self) -> str:
        return f"Your password may have at most {LONGEST:,} characters."


class PlainBCryptHasher(BCryptPasswordHasher):
    """For imported hashes alone. What made them looked at 72 bytes only; the library now refuses longer passwords."""

    def encode(self, password: str, salt: bytes | str) -> str:
        salt = salt.encode() if isinstance(salt, str) else salt
        hashed = self._load_library().hashpw(password.encode()[:BCRYPT_BYTES], salt)  # type: ignore[attr-defined]
        return f"{self.algorithm}${hashed.decode()}"
