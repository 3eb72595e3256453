"""Which passwords are taken, and how they are hashed: what settings.py says of it, in full."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from django.core.exceptions import ImproperlyConfigured

DJANGO = "django.contrib.auth"
VALIDATORS = {
    "similarity": "UserAttributeSimilarityValidator",
    "length": "MinimumLengthValidator",
    "common": "CommonPasswordValidator",
    "numeric": "NumericPasswordValidator",
}


def validators(names: Sequence[str], *, min_length: int) -> list[dict[str, Any]]:
    """The validators that are named, after one that nobody can leave out: a password has a greatest length."""
    if unknown := [name for name in names if name not in VALIDATORS]:
        raise ImproperlyConfigured(
            f"PASSWORD_VALIDATORS knows {', '.join(VALIDATORS)}, and not {', '.join(map(repr, unknown))}."
        )
    options: dict[str, dict[str, Any]] = {
        "similarity": {"user_attributes": ("email", "username", "full_name")},
        "length": {"min_length": min_length},
    }
    chosen = [
        {"NAME": f"{DJANGO}.password_validation.{VALIDATORS[name]}", "OPTIONS": options.get(name, {})} for name in names
    ]
    return [{"NAME": "accounts.passwords.MaximumLengthValidator"}, *chosen]


def hashers() -> list[str]:
    """The first one makes every hash; the others read imported ones, which are made anew at the next sign-in."""
    argon2 = [f"{DJANGO}.hashers.Argon2PasswordHasher"] if find_spec("argon2") else []
    return [
        f"{DJANGO}.hashers.BCryptSHA256PasswordHasher",
        "accounts.passwords.PlainBCryptHasher",
        f"{DJANGO}.hashers.PBKDF2PasswordHasher",
        f"{DJANGO}.hashers.PBKDF2SHA1PasswordHasher",
        *argon2,
        f"{DJANGO}.hashers.ScryptPasswordHasher",
    ]
