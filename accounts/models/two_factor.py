from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from django.db import models
from django.db.models import Q
from django.utils import timezone

from accounts.encryption import EncryptedTextField
from accounts.ids import uuid7
from accounts.models.users import User


class TotpDevice(models.Model):
    """An authenticator app (RFC 6238): SHA-1, 6 digits, 30 seconds. Its secret is kept encrypted.

    django-otp does the arithmetic. Its own table keeps the secret readable, which is why there is this one.
    """

    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.OneToOneField(User, on_delete=models.CASCADE, related_name="totp_device")
    secret = EncryptedTextField(editable=False, help_text="Hexadecimal.")
    confirmed_at = models.DateTimeField(null=True, editable=False, help_text="Empty: not in use yet.")
    last_step = models.BigIntegerField(default=-1, editable=False, help_text="No code of this step or before is taken.")
    failures = models.PositiveIntegerField(default=0, editable=False)
    failed_at = models.DateTimeField(null=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        verbose_name = "authenticator app"
        ordering = ("-id",)
        constraints: ClassVar = [models.CheckConstraint(condition=~Q(secret=""), name="totpdevice_secret_given")]

    def __str__(self) -> str:
        return f"authenticator app of {self.user_id}"


class RecoveryCode(models.Model):
    """Signs in once in place of an authenticator app that was lost. Only a hash is kept."""

    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="recovery_codes")
    code_hash = models.CharField(max_length=64, editable=False)
    used_at = models.DateTimeField(null=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ("-id",)
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["user", "code_hash"], name="recoverycode_unique"),
            models.CheckConstraint(condition=Q(code_hash__regex=r"^[0-9a-f]{64}$"), name="recoverycode_hash_is_sha256"),
        ]

    def __str__(self) -> str:
        return f"recovery code of {self.user_id}"
