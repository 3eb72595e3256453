from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

from django.contrib.auth.models import AbstractBaseUser, BaseUserManager, PermissionsMixin
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Lower
from django.utils import timezone
from django.utils.crypto import salted_hmac

from accounts.encryption import EncryptedTextField
from accounts.ids import uuid7


class UserManager(BaseUserManager["User"]):
    def create_user(self, email: str | None, password: str | None = None, **fields: Any) -> User:
        user = self.model(email=email.strip().lower() if email else None, **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> User:
        return self.create_user(email, password, is_staff=True, is_superuser=True, is_verified=True, **fields)

    def get_by_natural_key(self, username: str | None) -> User:
        """The account that signs in with an address; that of a merged account leads to the one it became."""
        user = self.select_related("merged_into").get(email=(username or "").strip().lower())
        return user.merged_into or user


class User(AbstractBaseUser, PermissionsMixin):
    """A person or service that calls. The e-mail address, kept in lower case, is the login name.

    A person who is known from a channel alone has no address and cannot sign in. A user who was merged into another
    stays as an alias of that one, with `merged_into` and without rows of their own. Of an erased user only the id is
    left, so that money and audit rows still point somewhere.
    """

    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    email = models.EmailField(max_length=254, null=True, blank=True)
    full_name = EncryptedTextField(blank=True, max_length=255, help_text="Kept encrypted.")
    username = models.CharField(max_length=150, null=True, blank=True, unique=True)
    is_active = models.BooleanField(default=True)
    is_verified = models.BooleanField(default=False, help_text="The e-mail address was confirmed.")
    is_staff = models.BooleanField(default=False, help_text="May sign in to this admin site.")
    stripe_customer_id = models.CharField(max_length=255, null=True, blank=True, unique=True)
    preferred_model = models.CharField(max_length=100, blank=True)
    password_changed_at = models.DateTimeField(null=True, blank=True)
    signed_out_at = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="Admin sessions that began before are over."
    )
    merged_into = models.ForeignKey(
        "self", on_delete=models.PROTECT, null=True, blank=True, editable=False, related_name="aliases"
    )
    erased_at = models.DateTimeField(null=True, blank=True, editable=False)
    metadata = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(auto_now=True)

    objects: ClassVar[UserManager] = UserManager()

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    class Meta:
        ordering = ("email", "id")
        permissions: ClassVar = [
            (
                "support_user",
                "Can help users: mails, passwords, signing out, revoking keys, resetting and granting quotas",
            )
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["email"], name="user_email_unique"),
            models.CheckConstraint(condition=Q(email=Lower("email")), name="user_email_lower_case"),
            models.CheckConstraint(condition=~Q(email=""), name="user_email_given"),
            models.CheckConstraint(
                condition=Q(merged_into=None) | (Q(is_active=False) & ~Q(merged_into=F("id"))),
                name="user_alias_is_not_active",
            ),
            models.CheckConstraint(
                condition=Q(erased_at=None) | Q(email=None, username=None, full_name="", is_active=False),
                name="user_erased_is_nobody",
            ),
        ]

    def __str__(self) -> str:
        return self.email or self.username or f"user {self.pk}"

    def _get_session_auth_hash(self, secret: str | None = None) -> str:
        """What an admin session is bound to: it ends with the password, and when the user is signed out everywhere."""
        since = self.signed_out_at.isoformat() if self.signed_out_at else ""
        return salted_hmac("accounts.User.session", f"{self.password}{since}", secret, algorithm="sha256").hexdigest()


class UserPreference(models.Model):
    """How a user likes things. `settings` is the product's own, free form."""

    class Theme(models.TextChoices):
        SYSTEM = "system"
        LIGHT = "light"
        DARK = "dark"

    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.OneToOneField(User, on_delete=models.CASCADE, related_name="preferences")
    language = models.CharField(max_length=35, default="en", help_text="A language tag (BCP 47), such as en or pt-BR.")
    timezone = models.CharField(max_length=64, default="UTC", help_text="A name of the IANA database.")
    theme = models.CharField(max_length=10, choices=Theme.choices, default=Theme.SYSTEM)
    email_notifications = models.BooleanField(default=True)
    settings = models.JSONField(default=dict, blank=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ("-id",)
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(theme__in=["system", "light", "dark"]), name="userpreference_theme_known"
            )
        ]

    def __str__(self) -> str:
        return f"preferences of {self.user_id}"
