from __future__ import annotations

from rest_framework import serializers

from inference.models import Request


class RequestSerializer(serializers.ModelSerializer[Request]):
    class Meta:
        model = Request
        fields: tuple[str, ...] = (
            "id",
            "request_type",
            "model",
            "provider",
            "is_stream",
            "status",
            "error_code",
            "error_message",
            "usage",
            "input_tokens",
            "cached_input_tokens",
            "output_tokens",
            "seconds",
            "characters",
            "cost",
            "processing_time",
            "first_byte_time",
            "api_key",
            "reservation",
            "prompt_version_id",
            "created_at",
            "finished_at",
        )
        read_only_fields = fields


class RequestDetailSerializer(RequestSerializer):
    class Meta(RequestSerializer.Meta):
        fields = (*RequestSerializer.Meta.fields, "request_data", "response_data")
        read_only_fields = fields
