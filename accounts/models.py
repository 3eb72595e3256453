"""Who is calling: users, their API keys, and the append-only record of what was done."""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

from django.contrib.auth.models import AbstractBaseUser, BaseUserManager, PermissionsMixin
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower
from django.utils import timezone

from accounts.ids import uuid7


class UserManager(BaseUserManager["User"]):
    def create_user(self, email: str, password: str | None = None, **fields: Any) -> User:
        user = self.model(email=email.strip().lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> User:
        return self.create_user(email, password, is_staff=True, is_superuser=True, is_verified=True, **fields)

    def get_by_natural_key(self, username: str | None) -> User:
        return self.get(email=(username or "").strip().lower())


class User(AbstractBaseUser, PermissionsMixin):
    """A person or service that calls. The e-mail address, kept in lower case, is the login name."""

    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    email = models.EmailField(max_length=254)
    full_name = models.CharField(max_length=255, blank=True)
    username = models.CharField(max_length=150, null=True, blank=True, unique=True)
    is_active = models.BooleanField(default=True)
    is_verified = models.BooleanField(default=False, help_text="The e-mail address was confirmed.")
    is_staff = models.BooleanField(default=False, help_text="May sign in to this admin site.")
    stripe_customer_id = models.CharField(max_length=255, null=True, blank=True, unique=True)
    preferred_model = models.CharField(max_length=100, blank=True)
    password_changed_at = models.DateTimeField(null=True, blank=True)
    metadata = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(auto_now=True)

    objects: ClassVar[UserManager] = UserManager()

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    class Meta:
        ordering = ("email",)
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["email"], name="user_email_unique"),
            models.CheckConstraint(condition=Q(email=Lower("email")), name="user_email_lower_case"),
            models.CheckConstraint(condition=~Q(email=""), name="user_email_given"),
        ]

    def __str__(self) -> str:
        return self.email


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    def usable(self) -> ApiKeyQuerySet:
        now = timezone.now()
        return self.filter(Q(expires_at=None) | Q(expires_at__gt=now), is_active=True, user__is_active=True)


class ApiKey(models.Model):
    """A credential for programs, `msk_<prefix>_<secret>`: shown once, kept as the SHA-256 of the whole."""

    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=255)
    prefix = models.CharField(max_length=16, unique=True, editable=False, help_text="The visible, public part.")
    key_hash = models.CharField(max_length=64, unique=True, editable=False)
    scopes = ArrayField(models.CharField(max_length=40), default=list, blank=True)
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
        ]
        indexes: ClassVar = [models.Index(fields=["user", "-id"], name="apikey_user")]

    def __str__(self) -> str:
        return f"{self.name} (msk_{self.prefix}_…)"


class AuditEvent(models.Model):
    """Who did what to whom. The database refuses to change or delete a row (trigger in migration 0002).

    `actor` and `target` are kept as plain values, not foreign keys, so that a record outlives what it speaks of.
    """

    class Status(models.TextChoices):
        SUCCESS = "success"
        FAILURE = "failure"

    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    actor_id = models.UUIDField(null=True)
    actor_email = models.CharField(max_length=254, blank=True)
    action = models.CharField(max_length=80)
    target_type = models.CharField(max_length=80, blank=True)
    target_id = models.CharField(max_length=64, blank=True)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.SUCCESS)
    ip = models.GenericIPAddressField(null=True)
    metadata = models.JSONField(default=dict)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ("-id",)
        constraints: ClassVar = [
            models.CheckConstraint(condition=~Q(action=""), name="auditevent_action_given"),
            models.CheckConstraint(condition=Q(status__in=["success", "failure"]), name="auditevent_status_known"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["actor_id", "-id"], name="auditevent_actor"),
            models.Index(fields=["target_type", "target_id", "-id"], name="auditevent_target"),
            models.Index(fields=["action", "-id"], name="auditevent_action"),
        ]

    def __str__(self) -> str:
        return f"{self.action} by {self.actor_email or 'nobody'}"
