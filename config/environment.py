"""Reading environment variables: a senseless value stops the start with a sentence that says how to mend it."""

from __future__ import annotations

import os
import re

from django.core.exceptions import ImproperlyConfigured


def env(name: str, default: str = "") -> str:
    return os.environ.get(name, default).strip()


def env_int(name: str, default: int, *, least: int | None = None) -> int:
    value = env(name, str(default))
    try:
        number = int(value)
    except ValueError:
        raise ImproperlyConfigured(f"{name} must be a whole number, not {value!r}.") from None
    if least is not None and number < least:
        raise ImproperlyConfigured(f"{name} must be at least {least}, not {number}.")
    return number


def env_bool(name: str, default: bool = False) -> bool:
    value = env(name, "true" if default else "false").lower()
    if value in {"1", "true", "yes", "on"}:
        return True
    if value in {"0", "false", "no", "off", ""}:
        return False
    raise ImproperlyConfigured(f"{name} must be true or false, not {value!r}.")


def env_rate(name: str, default: str) -> str:
    value = env(name, default)
    if not re.fullmatch(r"\d+/\d*[smhd]", value):
        raise ImproperlyConfigured(f"{name} must be a rate such as 30/m (s, m, h or d), not {value!r}.")
    return value


def checked_url(name: str, value: str) -> str:
    """`value`, if it is empty or a link can begin with it."""
    if value and not re.fullmatch(r"https?://[^\s/?#]+(/\S*)?[^\s/]", value):
        example = "https://mainstay.example.com, without a slash at the end"
        raise ImproperlyConfigured(f"{name} must be an address such as {example}, not {value!r}.")
    return value


def checked_link(name: str, value: str) -> str:
    """`value`, if it is empty or a link with a place for its token."""
    if value and not re.fullmatch(r"https?://[^\s/?#]+/\S*\{token\}\S*", value):
        raise ImproperlyConfigured(f"{name} must look like https://example.com/?token={{token}}, not {value!r}.")
    return value


def checked_stripe_key(key: str, webhook_secrets: list[str]) -> str:
    """`key`, if it is empty, or a secret one with a secret of the webhook beside it."""
    if key and not key.startswith(("sk_", "rk_")):
        raise ImproperlyConfigured("STRIPE_SECRET_KEY must be a secret or a restricted key: sk_… or rk_….")
    if key and not webhook_secrets:
        raise ImproperlyConfigured("STRIPE_WEBHOOK_SECRET is missing: without it, no purchase would be heard of.")
    return key


def env_list(name: str, default: str = "") -> list[str]:
    return [item.strip() for item in env(name, default).split(",") if item.strip()]


def env_origins(name: str) -> list[str]:
    """Origins as browsers write them: in small letters, without a path and without the scheme's own port."""
    origins = [origin.lower() for origin in env_list(name)]
    for origin in origins:
        if not re.fullmatch(r"https?://([a-z0-9-]+(\.[a-z0-9-]+)*|\[[0-9a-f:]+\])(:[1-9]\d{0,4})?", origin):
            raise ImproperlyConfigured(
                f"{name} must hold origins such as https://app.example.com, without a path or a *, not {origin!r}."
            )
    return [origin.removesuffix(":443" if origin.startswith("https:") else ":80") for origin in origins]
