"""What an API key may be good for. Each view names one scope; `accounts.permissions` holds keys to it."""

from __future__ import annotations

from django.db.models import TextChoices


class Scope(TextChoices):
    """A person's own token is good for everything that the person may do; a key only for what it names."""

    INFERENCE = "inference", "Call models; hold and report usage"
    CONVERSATIONS = "conversations", "Read and change conversations"
    PROMPTS = "prompts", "Read and change prompts"
    READ = "read", "Read everything of the account, change nothing"
    ACT_AS = "act-as", "Act as other people, named by X-On-Behalf-Of"
    ADMIN = "admin", "Manage the account: profile, keys, sessions, channels, data; and what its owner operates"


# What a key gets when nobody says what it is for: enough for a program, nothing that changes the account.
DEFAULT_SCOPES = (Scope.INFERENCE, Scope.CONVERSATIONS, Scope.PROMPTS, Scope.READ)


def default_scopes() -> list[str]:
    return [scope.value for scope in DEFAULT_SCOPES]
