"""What callers send, kept for the next time: in folders, and shared with whom they like."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar
from uuid import UUID

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from accounts.ids import uuid7


class CollectionQuerySet(models.QuerySet["Collection"]):
    def visible_to(self, user_id: UUID) -> CollectionQuerySet:
        """The user's own, and those that active users share with everybody."""
        return self.filter(Q(user_id=user_id) | Q(is_open=True, user__is_active=True))

    def shared_with(self, user_id: UUID) -> CollectionQuerySet:
        """Those of others that the user may read."""
        return self.filter(is_open=True, user__is_active=True).exclude(user_id=user_id)


class Collection(models.Model):
    """A folder of a user, in another one or at the top (no parent).

    `is_shared` is what its owner has said of it; `is_open` what follows: it or a folder above it is shared, so
    everybody may read what is in it. That no folder is inside itself, and all in one tree are one user's, is the
    service's to hold, which writes the tree of a user under a lock.
    """

    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="collections")
    parent = models.ForeignKey("self", on_delete=models.CASCADE, null=True, blank=True, related_name="children")
    name = models.CharField(max_length=100)
    description = models.TextField(blank=True)
    position = models.BigIntegerField(default=0, help_text="The order in its folder, with gaps; ties go by id.")
    is_shared = models.BooleanField(default=False, help_text="Everybody can read what is in it, in folders too.")
    is_open = models.BooleanField(default=False, editable=False, help_text="It, or a folder above it, is shared.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(auto_now=True)

    objects = CollectionQuerySet.as_manager()

    class Meta:
        ordering = ("-id",)
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["user", "parent", "name"], nulls_distinct=False, name="collection_name_unique"
            ),
            models.CheckConstraint(condition=~Q(name=""), name="collection_name_given"),
            models.CheckConstraint(condition=Q(parent=None) | ~Q(parent=F("id")), name="collection_not_in_itself"),
            models.CheckConstraint(condition=Q(is_shared=False) | Q(is_open=True), name="collection_shared_is_open"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["user", "parent", "position", "id"], name="collection_place"),
            models.Index(fields=["-id"], condition=Q(is_open=True), name="collection_open"),
        ]

    def __str__(self) -> str:
        return self.name


class SavedPromptQuerySet(models.QuerySet["SavedPrompt"]):
    def visible_to(self, user_id: UUID) -> SavedPromptQuerySet:
        """The user's own, and those that active users share with everybody."""
        return self.filter(Q(user_id=user_id) | Q(is_open=True, user__is_active=True))

    def shared_with(self, user_id: UUID) -> SavedPromptQuerySet:
        """Those of others that the user may read."""
        return self.filter(is_open=True, user__is_active=True).exclude(user_id=user_id)


class SavedPrompt(models.Model):
    """A text that a user keeps, in a folder or at the top. It may hold `{{variables}}`, as templates do.

    `is_shared` is what its owner has said of it; `is_open` what follows: it, or a folder that it is in, is shared.
    """

    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="saved_prompts")
    collection = models.ForeignKey(Collection, on_delete=models.CASCADE, null=True, blank=True, related_name="prompts")
    title = models.CharField(max_length=200)
    description = models.TextField(blank=True)
    content = models.TextField()
    tags = ArrayField(models.CharField(max_length=50), default=list, blank=True)
    is_favourite = models.BooleanField(default=False)
    position = models.BigIntegerField(default=0, help_text="The order in its folder, with gaps; ties go by id.")
    is_shared = models.BooleanField(default=False, help_text="Everybody can read and duplicate it.")
    is_open = models.BooleanField(default=False, editable=False, help_text="It, or a folder above it, is shared.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(auto_now=True)

    objects = SavedPromptQuerySet.as_manager()

    class Meta:
        ordering = ("-id",)
        constraints: ClassVar = [
            models.CheckConstraint(condition=~Q(title="") & ~Q(content=""), name="savedprompt_not_empty"),
            models.CheckConstraint(condition=Q(is_shared=False) | Q(is_open=True), name="savedprompt_shared_is_open"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["user", "-id"], name="savedprompt_user"),
            models.Index(fields=["user", "collection", "position", "id"], name="savedprompt_place"),
            models.Index(fields=["-id"], condition=Q(is_open=True), name="savedprompt_open"),
            GinIndex(fields=["tags"], name="savedprompt_tags"),
        ]

    def __str__(self) -> str:
        return self.title


class ShareLinkQuerySet(models.QuerySet["ShareLink"]):
    def live(self, now: datetime) -> ShareLinkQuerySet:
        """Those that still lead somewhere: neither revoked nor expired, and their owner is active."""
        is_not_over = Q(expires_at=None) | Q(expires_at__gt=now)
        return self.filter(is_not_over, revoked_at=None, user__is_active=True)


class ShareLink(models.Model):
    """Who has its token may read one prompt, or one folder with all that is in it, without an account.

    The token is `shr_<prefix>_<secret>`: shown once, kept as the SHA-256 of the whole.
    """

    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="share_links")
    prompt = models.ForeignKey(SavedPrompt, on_delete=models.CASCADE, null=True, related_name="links")
    collection = models.ForeignKey(Collection, on_delete=models.CASCADE, null=True, related_name="links")
    prefix = models.CharField(max_length=16, unique=True, editable=False, help_text="The visible part of the token.")
    token_hash = models.CharField(max_length=64, unique=True, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True, help_text="Empty: never.")
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    use_count = models.PositiveBigIntegerField(default=0, editable=False, help_text="How often it was read.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = ShareLinkQuerySet.as_manager()

    class Meta:
        ordering = ("-id",)
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(prompt__isnull=False, collection=None) | Q(prompt=None, collection__isnull=False),
                name="sharelink_leads_to_one",
            ),
            models.CheckConstraint(
                condition=Q(("token_hash__regex", r"^[0-9a-f]{64}$")), name="sharelink_hash_is_sha256"
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["user", "-id"], name="sharelink_user")]

    def __str__(self) -> str:
        return f"shr_{self.prefix}_…"
