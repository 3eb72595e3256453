"""Who is calling, as one immutable value."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Caller:
    """The one value that authentication makes and everything else receives.

    A key acts for its owner, or with `act-as` for somebody else: then `user_id` is that person, and `acted_by` the
    key's owner. `email` is empty for a person who is known from a channel alone.
    """

    user_id: UUID
    email: str = ""
    is_staff: bool = False
    is_superuser: bool = False
    permissions: frozenset[str] = frozenset()
    preferred_model: str = ""
    api_key_id: UUID | None = None
    scopes: frozenset[str] = frozenset()
    acted_by: UUID | None = None
    session_id: UUID | None = None
    token_id: str = ""
    channel: str = "api"
    ip: str | None = None
    user_agent: str = ""

    is_authenticated = True
    is_active = True

    @property
    def pk(self) -> UUID:
        return self.user_id

    def has_scope(self, scope: str) -> bool:
        """A person's own token is good for everything, a key for what it names."""
        return self.api_key_id is None or scope in self.scopes

    def has_perm(self, permission: str) -> bool:
        """Whether this is staff with a permission of Django's, `app.codename`; never while acting for somebody else."""
        return self.is_staff and self.acted_by is None and (self.is_superuser or permission in self.permissions)
