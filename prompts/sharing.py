"""Links: who has one reads a prompt, or a folder with all that is in it, without an account."""

from __future__ import annotations

import re
import secrets
from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.db.models import F, QuerySet
from django.utils import timezone

from accounts import audit
from accounts.caller import Caller
from accounts.credentials import hash_key
from accounts.exceptions import Conflict, InvalidInput, NotFound
from prompts.models import Collection, SavedPrompt, ShareLink
from prompts.tree import Tree, lock_tree

MARK = "shr_"
TOKEN_PATTERN = f"{MARK}[0-9a-f]{{12}}_[A-Za-z0-9]{{43}}"
MOST_LINKS = 50


def create_link(
    *, target: SavedPrompt | Collection, by: Caller, expires_at: datetime | None = None
) -> tuple[ShareLink, str]:
    """Make a link to what is the caller's own; the token can never be had again.

    `InvalidInput` if it had expired already, `Conflict` if too many lead there.
    """
    now = timezone.now()
    if expires_at is not None and expires_at <= now:
        raise InvalidInput("The expiry lies in the past.", param="expires_at")
    prefix = secrets.token_hex(6)
    token = f"{MARK}{prefix}_{secrets.token_urlsafe(32).replace('-', 'x').replace('_', 'y')}"
    leads_to = {"prompt": target} if isinstance(target, SavedPrompt) else {"collection": target}
    with transaction.atomic():
        lock_tree(by.user_id)
        if ShareLink.objects.live(now).filter(**leads_to).count() >= MOST_LINKS:
            raise Conflict(f"There are {MOST_LINKS} links already: revoke one.", code="too_many_links")
        link = ShareLink.objects.create(
            user_id=by.user_id, prefix=prefix, token_hash=hash_key(token), expires_at=expires_at, **leads_to
        )
        audit.record("share_link.created", by=by, target=link, leads_to=str(target.pk))
    return link, token


def revoke_link(*, links: QuerySet[ShareLink], link_id: UUID, by: Caller) -> ShareLink:
    """Let one of `links` lead nowhere any more, for good; `NotFound` if it is none of them."""
    with transaction.atomic():
        link = links.filter(pk=link_id).first()
        if link is None:
            raise NotFound("There is no such link.")
        if ShareLink.objects.filter(pk=link_id, revoked_at=None).update(revoked_at=timezone.now()):
            audit.record("share_link.revoked", by=by, target=link)
            link.refresh_from_db(fields=["revoked_at"])
    return link


def open_link(token: str) -> ShareLink:
    """The link of a token, with what it leads to; that it was used is counted. `NotFound` if it leads nowhere."""
    now = timezone.now()
    found = None
    if re.fullmatch(TOKEN_PATTERN, token):
        live = ShareLink.objects.live(now).select_related("prompt", "collection")
        found = live.filter(token_hash=hash_key(token)).first()
    if found is None:
        raise NotFound("This link leads nowhere.")
    ShareLink.objects.filter(pk=found.pk).update(use_count=F("use_count") + 1, last_used_at=now)
    return found


class SharedFolder:
    """What a link to a folder shows: the folders in it by their paths, and all prompts."""

    def __init__(self, folder: Collection) -> None:
        self.folder = folder
        tree = Tree(folder.user_id)
        self.paths: dict[UUID, list[str]] = {folder.pk: []}
        for child in tree.below(folder.pk):
            self.paths[child.pk] = tree.path(child.pk, since=folder.pk)

    def prompts(self) -> QuerySet[SavedPrompt]:
        return SavedPrompt.objects.filter(collection__in=list(self.paths))
