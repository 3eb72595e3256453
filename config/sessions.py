"""Django's sessions in Redis, but for one thing: while Redis is away, nobody is taken for signed out."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.sessions.backends import cache
from django.core.cache import caches


class SessionStore(cache.SessionStore):
    """Lets the error of a session that cannot be read through, and so keeps its cookie: it will be there again."""

    def load(self) -> dict[str, Any]:
        return self._known(caches[settings.SESSION_CACHE_ALIAS].get(self.cache_key))

    async def aload(self) -> dict[str, Any]:
        return self._known(await caches[settings.SESSION_CACHE_ALIAS].aget(await self.acache_key()))

    def _known(self, found: dict[str, Any] | None) -> dict[str, Any]:
        if found is None:
            self._session_key = None
        return found or {}
