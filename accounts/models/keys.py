from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.utils import timezone

from accounts.ids import uuid7
from accounts.models.users import User
from accounts.scopes import Scope, default_scopes


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    def usable(self) -> ApiKeyQuerySet:
        now = timezone.now()
        return self.filter(Q(expires_at=None) | Q(expires_at__gt=now), is_active=True, user__is_active=True)

    def with_prefix(self, prefix: str) -> ApiKeyQuerySet:
        """Keys whose present text has this prefix, or whose text before the last rotation had."""
        return self.filter(Q(prefix=prefix) | Q(previous_prefix=prefix))


class ApiKey(models.Model):
    """A credential for programs, `msk_<prefix>_<secret>`: shown once, kept as the SHA-256 of the whole.

    A rotation gives the row a new text. The one before stays good until `previous_expires_at`.
    """

    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=255)
    prefix = models.CharField(max_length=16, unique=True, editable=False, help_text="The visible, public part.")
    key_hash = models.CharField(max_length=64, unique=True, editable=False)
    previous_prefix = models.CharField(max_length=16, unique=True, null=True, blank=True, editable=False)
    previous_key_hash = models.CharField(max_length=64, blank=True, editable=False)
    previous_expires_at = models.DateTimeField(null=True, blank=True, editable=False)
    scopes = ArrayField(models.CharField(max_length=40, choices=Scope.choices), default=default_scopes)
    is_active = models.BooleanField(default=True)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True, help_text="Empty: never.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        verbose_name = "API key"
        ordering = ("-id",)
        constraints: ClassVar = [
            models.CheckConstraint(condition=~Q(name=""), name="apikey_name_given"),
            models.CheckConstraint(condition=Q(key_hash__regex=r"^[0-9a-f]{64}$"), name="apikey_hash_is_sha256"),
            models.CheckConstraint(
                condition=~Q(scopes=[])
                & Q(scopes__contained_by=["inference", "conversations", "prompts", "read", "act-as", "admin"]),
                name="apikey_scopes_known",
            ),
            models.CheckConstraint(
                condition=Q(previous_prefix=None, previous_key_hash="", previous_expires_at=None)
                | Q(
                    previous_prefix__isnull=False,
                    previous_key_hash__regex=r"^[0-9a-f]{64}$",
                    previous_expires_at__isnull=False,
                ),
                name="apikey_previous_whole",
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["user", "-id"], name="apikey_user")]

    def __str__(self) -> str:
        return f"{self.name} (msk_{self.prefix}_…)"
