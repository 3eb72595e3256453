from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

from django.contrib.auth import authenticate
from django.contrib.auth.models import update_last_login
from django.core.validators import EmailValidator
from rest_framework import serializers
from rest_framework_simplejwt.exceptions import TokenError
from rest_framework_simplejwt.tokens import RefreshToken

from accounts.codes import LONGEST_TOKEN
from accounts.exceptions import NotAuthenticated
from accounts.models import ApiKey, User


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
            "email": {"validators": [EmailValidator()]},
            "username": {"validators": []},
        }


class RegistrationSerializer(serializers.Serializer[User]):
    email = serializers.EmailField(max_length=254)
    password = serializers.CharField(write_only=True, max_length=1024, trim_whitespace=False)
    full_name = serializers.CharField(max_length=255, required=False, allow_blank=True)


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
    """`email` and `password` in; a refresh and an access token out."""

    email = serializers.EmailField(write_only=True)
    password = serializers.CharField(write_only=True, max_length=1024, trim_whitespace=False)
    access = serializers.CharField(read_only=True)
    refresh = serializers.CharField(read_only=True)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        user = authenticate(self.context["request"], username=attrs["email"].lower(), password=attrs["password"])
        if user is None:
            raise NotAuthenticated("The e-mail address or the password is wrong.", code="invalid_credentials")
        update_last_login(type(user), user)
        return _tokens_for(RefreshToken.for_user(user))


class TokenRefreshSerializer(serializers.Serializer[User]):
    """A refresh token in; a new pair out."""

    refresh = serializers.CharField()
    access = serializers.CharField(read_only=True)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        try:
            old = RefreshToken(attrs["refresh"])
            user = User.objects.filter(pk=UUID(str(old["user_id"])), is_active=True).first()
        except (TokenError, KeyError, ValueError):
            user = None
        if user is None:
            raise NotAuthenticated("The refresh token is wrong or has expired.", code="invalid_token")
        return _tokens_for(RefreshToken.for_user(user))


def _tokens_for(refresh: RefreshToken) -> dict[str, str]:
    return {"access": str(refresh.access_token), "refresh": str(refresh)}


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
            "created_at",
        )
        read_only_fields = ("id", "prefix", "is_active", "last_used_at", "created_at")

    def get_prefix(self, key: ApiKey) -> str:
        return f"msk_{key.prefix}"


class NewApiKeySerializer(ApiKeySerializer):
    key = serializers.CharField(read_only=True, help_text="The whole key. It is shown this once.")

    class Meta(ApiKeySerializer.Meta):
        fields = (*ApiKeySerializer.Meta.fields, "key")
