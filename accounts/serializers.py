from __future__ import annotations

from typing import Any, ClassVar

from django.core.validators import EmailValidator
from rest_framework import serializers

from accounts.codes import LONGEST_TOKEN
from accounts.models import ApiKey, ChannelIdentity, Session, User, UserPreference
from accounts.services import MAX_OVERLAP


class UserSerializer(serializers.ModelSerializer[User]):
    metadata = serializers.DictField(required=False)

    class Meta:
        model = User
        fields = (
            "id",
            "email",
            "full_name",
            "username",
            "is_active",
            "is_verified",
            "is_staff",
            "preferred_model",
            "metadata",
            "created_at",
            "updated_at",
            "last_login",
        )
        read_only_fields = ("id", "is_active", "is_verified", "is_staff", "created_at", "updated_at", "last_login")
        # Uniqueness is the database's: the service turns its refusal into a conflict, without a race.
        extra_kwargs: ClassVar[dict[str, dict[str, Any]]] = {
            "email": {"validators": [EmailValidator()], "required": True, "allow_null": False, "allow_blank": False},
            "username": {"validators": []},
        }


class RegistrationSerializer(serializers.Serializer[User]):
    email = serializers.EmailField(max_length=254)
    password = serializers.CharField(write_only=True, max_length=1024, trim_whitespace=False)
    full_name = serializers.CharField(max_length=255, required=False, allow_blank=True)


class SignInSerializer(serializers.Serializer[User]):
    email = serializers.EmailField(max_length=254)
    password = serializers.CharField(max_length=1024, trim_whitespace=False)
    otp = serializers.CharField(
        max_length=64, required=False, help_text="A code of the authenticator app or a recovery code, for who has them."
    )
    device = serializers.CharField(max_length=100, required=False, help_text="What the client calls itself.")


class EmailVerificationSerializer(serializers.Serializer[User]):
    """The token of a link, to prove the address; or an address, to have a link sent there."""

    token = serializers.CharField(write_only=True, max_length=LONGEST_TOKEN, required=False)
    email = serializers.EmailField(max_length=254, required=False)
    is_verified = serializers.BooleanField(read_only=True)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if len(attrs) != 1:
            raise serializers.ValidationError({"token": ["Give either a token or an e-mail address."]}, code="required")
        return attrs


class PasswordResetSerializer(serializers.Serializer[User]):
    email = serializers.EmailField(max_length=254)


class NewPasswordSerializer(serializers.Serializer[User]):
    token = serializers.CharField(max_length=LONGEST_TOKEN)
    password = serializers.CharField(max_length=1024, trim_whitespace=False)
    revoke_api_keys = serializers.BooleanField(default=False, help_text="Whether all API keys stop working, too.")


class TokenPairSerializer(serializers.Serializer[User]):
    access = serializers.CharField()
    refresh = serializers.CharField()


class RefreshTokenSerializer(serializers.Serializer[User]):
    refresh = serializers.CharField(max_length=4096)


class SignOutSerializer(serializers.Serializer[User]):
    refresh = serializers.CharField(
        max_length=4096, required=False, help_text="Of the session to end. Without it, the one that asks ends."
    )


class ChangePasswordSerializer(serializers.Serializer[User]):
    current_password = serializers.CharField(max_length=1024, trim_whitespace=False)
    new_password = serializers.CharField(max_length=1024, trim_whitespace=False)
    revoke_api_keys = serializers.BooleanField(default=False)


class SessionSerializer(serializers.ModelSerializer[Session]):
    is_current = serializers.SerializerMethodField()

    class Meta:
        model = Session
        fields = ("id", "device", "ip", "user_agent", "is_current", "created_at", "last_seen_at", "expires_at")

    def get_is_current(self, session: Session) -> bool:
        return bool(session.pk == self.context["request"].user.session_id)


class PreferenceSerializer(serializers.ModelSerializer[UserPreference]):
    preferred_model = serializers.CharField(
        source="user.preferred_model", max_length=100, allow_blank=True, help_text="Called when a chat call names none."
    )
    settings = serializers.DictField(required=False)

    class Meta:
        model = UserPreference
        fields = (
            *("preferred_model", "language", "timezone", "theme", "email_notifications", "settings"),
            "updated_at",
        )


class ApiKeySerializer(serializers.ModelSerializer[ApiKey]):
    prefix = serializers.SerializerMethodField(help_text="The visible start of the key.")

    class Meta:
        model = ApiKey
        fields: tuple[str, ...] = (
            "id",
            "name",
            "prefix",
            "scopes",
            "is_active",
            "last_used_at",
            "expires_at",
            "previous_expires_at",
            "created_at",
        )
        read_only_fields = ("id", "prefix", "is_active", "last_used_at", "previous_expires_at", "created_at")
        extra_kwargs: ClassVar[dict[str, dict[str, Any]]] = {
            "previous_expires_at": {"help_text": "Until then the text before the last rotation is good, too."}
        }

    def get_prefix(self, key: ApiKey) -> str:
        return f"msk_{key.prefix}"


class NewApiKeySerializer(ApiKeySerializer):
    key = serializers.CharField(read_only=True, help_text="The whole key. It is shown this once.")

    class Meta(ApiKeySerializer.Meta):
        fields = (*ApiKeySerializer.Meta.fields, "key")


class RotationSerializer(serializers.Serializer[ApiKey]):
    overlap_seconds = serializers.IntegerField(
        default=3600,
        min_value=0,
        max_value=int(MAX_OVERLAP.total_seconds()),
        help_text="How long the old text stays good.",
    )


class ChannelIdentitySerializer(serializers.ModelSerializer[ChannelIdentity]):
    class Meta:
        model = ChannelIdentity
        fields = ("id", "channel_type", "channel_user_id", "username", "created_at")


class LinkCodeSerializer(serializers.Serializer[ChannelIdentity]):
    """Without `code`, one is made; with one, the caller becomes one person with whoever made it."""

    code = serializers.CharField(max_length=40, required=False, write_only=True)


class NewLinkCodeSerializer(serializers.Serializer[Any]):
    code = serializers.CharField()
    expires_at = serializers.DateTimeField()
