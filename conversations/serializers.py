from __future__ import annotations

from rest_framework import serializers

from conversations.models import Conversation, Message


class ConversationSerializer(serializers.ModelSerializer[Conversation]):
    metadata = serializers.DictField(required=False)

    class Meta:
        model = Conversation
        fields = (
            "id",
            "channel",
            "title",
            "model_override",
            "is_active",
            "metadata",
            "started_at",
            "last_activity",
        )
        read_only_fields = ("id", "channel", "started_at", "last_activity")


class MessageSerializer(serializers.ModelSerializer[Message]):
    class Meta:
        model = Message
        fields = ("id", "role", "content", "model_used", "token_count", "request", "metadata", "created_at")
        read_only_fields = fields
