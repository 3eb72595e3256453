from __future__ import annotations

from datetime import datetime
from typing import ClassVar
from uuid import UUID

from django.db import models
from django.db.models import Q
from django.utils import timezone

from accounts.ids import uuid7
from accounts.models.users import User


class SessionQuerySet(models.QuerySet["Session"]):
    def live(self, now: datetime | None = None) -> SessionQuerySet:
        return self.filter(revoked_at=None, expires_at__gt=now or timezone.now())


class Session(models.Model):
    """A device that a user has signed in on: the family of refresh tokens that began with one sign-in.

    Only the refresh token with the id `refresh_jti` is good; each use replaces it. Every token of the family carries
    the session's id, so that none of them outlives it.
    """

    class Reason(models.TextChoices):
        SIGNED_OUT = "signed_out"
        SIGNED_OUT_EVERYWHERE = "signed_out_everywhere"
        REVOKED = "revoked"
        TOKEN_REUSED = "token_reused"  # noqa: S105 - what happened to a token, not one
        PASSWORD_CHANGED = "password_changed"  # noqa: S105
        MERGED = "merged"
        ERASED = "erased"

    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="sessions")
    device = models.CharField(max_length=100, blank=True, help_text="What the client calls itself.")
    ip = models.GenericIPAddressField(null=True)
    user_agent = models.CharField(max_length=300, blank=True)
    refresh_jti = models.CharField(max_length=64, unique=True, editable=False)
    previous_jti = models.CharField(max_length=64, blank=True, editable=False)
    rotated_at = models.DateTimeField(null=True, editable=False)
    last_seen_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True)
    revoked_reason = models.CharField(max_length=30, choices=Reason.choices, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = SessionQuerySet.as_manager()

    class Meta:
        ordering = ("-id",)
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(
                    revoked_reason__in=[
                        *("", "signed_out", "signed_out_everywhere", "revoked", "token_reused", "password_changed"),
                        *("merged", "erased"),
                    ]
                ),
                name="session_reason_known",
            ),
            models.CheckConstraint(
                condition=Q(revoked_at=None, revoked_reason="") | (Q(revoked_at__isnull=False) & ~Q(revoked_reason="")),
                name="session_revoked_for_a_reason",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["user", "-id"], name="session_user"),
            models.Index(fields=["expires_at"], name="session_expires"),
        ]

    def __str__(self) -> str:
        return self.device or self.user_agent[:60] or f"session {self.pk}"


class BlacklistedToken(models.Model):
    """A token that must not be believed any more, although its signature is right and its time not over."""

    class Type(models.TextChoices):
        ACCESS = "access"
        REFRESH = "refresh"

    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    jti = models.CharField(max_length=64, unique=True)
    token_type = models.CharField(max_length=10, choices=Type.choices)
    session = models.ForeignKey(Session, on_delete=models.CASCADE, related_name="blacklisted_tokens")
    revoked_by = models.UUIDField(null=True, help_text="The id of the user who did it.")
    reason = models.CharField(max_length=30, choices=Session.Reason.choices)
    expires_at = models.DateTimeField(help_text="From then on the token is worth nothing anyway.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ("-id",)
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(token_type__in=["access", "refresh"]), name="blacklistedtoken_type_known"
            ),
            models.CheckConstraint(
                condition=Q(
                    reason__in=[
                        *("signed_out", "signed_out_everywhere", "revoked", "token_reused", "password_changed"),
                        *("merged", "erased"),
                    ]
                ),
                name="blacklistedtoken_reason_known",
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["expires_at"], name="blacklistedtoken_expires")]

    def __str__(self) -> str:
        return f"{self.token_type} token {self.jti}"


class OneTimeCode(models.Model):
    """A secret that was sent out to be shown once: in a link by e-mail, or to be typed in on another channel.

    Only a hash is kept. It is good until `expires_at`, until it is used, and as long as it was not voided.
    """

    class Purpose(models.TextChoices):
        VERIFY_EMAIL = "verify_email"
        RESET_PASSWORD = "reset_password"  # noqa: S105
        LINK_CHANNEL = "link_channel"

    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="one_time_codes")
    purpose = models.CharField(max_length=20, choices=Purpose.choices)
    code_hash = models.CharField(max_length=64, unique=True, editable=False)
    email = models.CharField(max_length=254, blank=True, help_text="The address that it was sent to.")
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ("-id",)
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(purpose__in=["verify_email", "reset_password", "link_channel"]),
                name="onetimecode_purpose_known",
            ),
            models.CheckConstraint(condition=Q(code_hash__regex=r"^[0-9a-f]{64}$"), name="onetimecode_hash_is_sha256"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["user", "purpose"], name="onetimecode_user"),
            models.Index(fields=["expires_at"], name="onetimecode_expires"),
        ]

    def __str__(self) -> str:
        return f"{self.purpose} for {self.user_id}"
