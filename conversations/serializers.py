from __future__ import annotations

from typing import Any

from rest_framework import serializers

from conversations.models import Conversation, Message
from conversations.models.conversations import MOST_TAGS


class ConversationSerializer(serializers.ModelSerializer[Conversation]):
    metadata = serializers.DictField(required=False)
    tags = serializers.ListField(child=serializers.CharField(max_length=50), max_length=MOST_TAGS, required=False)
    is_active = serializers.BooleanField(required=False, help_text="False: archived.")
    head = serializers.UUIDField(
        source="head_id", required=False, help_text="The last message of the current branch; another one moves there."
    )

    class Meta:
        model = Conversation
        fields: tuple[str, ...] = (
            *("id", "channel", "title", "model_override", "tags", "metadata", "head", "is_active", "archived_at"),
            *("pinned_at", "deleted_at", "started_at", "last_activity"),
        )
        read_only_fields: tuple[str, ...] = (
            *("id", "channel", "archived_at", "pinned_at", "deleted_at", "started_at", "last_activity"),
        )

    def validate_tags(self, tags: list[str]) -> list[str]:
        return list(dict.fromkeys(tags))


class NewConversationSerializer(ConversationSerializer):
    channel = serializers.CharField(max_length=50, required=False)

    class Meta(ConversationSerializer.Meta):
        fields = ("channel", "title", "model_override", "tags", "metadata")
        read_only_fields = ()


class MessageSerializer(serializers.ModelSerializer[Message]):
    parent = serializers.UUIDField(source="parent_id", allow_null=True)  # type: ignore[assignment]
    reply_to = serializers.UUIDField(source="reply_to_id", allow_null=True)
    request = serializers.UUIDField(source="request_id", allow_null=True)

    class Meta:
        model = Message
        fields = (
            *("id", "sequence", "parent", "reply_to", "role", "status", "content", "tool_calls", "tool_call_id"),
            *("client_message_id", "model_used", "token_count", "request", "metadata", "created_at"),
        )
        read_only_fields = fields


class EditSerializer(serializers.Serializer[Any]):
    # Whether it says something is for the service to judge.
    content = serializers.CharField(allow_blank=True, trim_whitespace=False)
    client_message_id = serializers.RegexField(
        r"^[\x20-\x7e]{1,100}\Z",
        required=False,
        help_text="Yours, used once: who sends it again gets the same message.",
    )
    metadata = serializers.DictField(required=False)


class NewMessageSerializer(EditSerializer):
    role = serializers.ChoiceField(choices=["user", "system", "tool"], default="user")
    parent = serializers.UUIDField(  # type: ignore[assignment]
        required=False, allow_null=True, help_text="Null begins anew. Not given: the end of the current branch."
    )
    tool_call_id = serializers.CharField(max_length=100, required=False, help_text="Of a tool's message.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if "tool_call_id" in attrs and attrs["role"] != Message.Role.TOOL:
            raise serializers.ValidationError({"tool_call_id": "Only a tool's message answers a call."})
        return attrs


class SeenSerializer(serializers.Serializer[Any]):
    user = serializers.UUIDField(source="user_id")
    last_seen = serializers.DateTimeField(source="at")


class ActiveSerializer(serializers.Serializer[Any]):
    channel = serializers.CharField()
    count = serializers.IntegerField(help_text="People who wrote within the last five minutes.")
    last_seen = serializers.DateTimeField(allow_null=True)
    is_active = serializers.BooleanField(help_text="Whether the caller is one of them.")
    people = SeenSerializer(many=True, required=False, help_text="For operators: the latest 200.")


class BranchQuerySerializer(serializers.Serializer[Any]):
    branch = serializers.UUIDField(required=False, help_text="The last message of a branch; else the current one.")
    cursor = serializers.UUIDField(required=False, help_text="As `next` has it.")
    limit = serializers.IntegerField(required=False, min_value=1, max_value=200, default=50)
    all = serializers.BooleanField(required=False, default=False, help_text="All branches together.")


class MessagePageSerializer(serializers.Serializer[Any]):
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)
    results = MessageSerializer(many=True)


class ContextMessageSerializer(serializers.Serializer[Any]):
    role = serializers.CharField()
    content = serializers.CharField(allow_blank=True)
    tool_calls = serializers.ListField(required=False)
    tool_call_id = serializers.CharField(required=False)


class ContextSerializer(serializers.Serializer[Any]):
    model = serializers.CharField(allow_blank=True)
    messages = ContextMessageSerializer(many=True)
    tokens = serializers.IntegerField(help_text="About how many the messages have.")
    left_out = serializers.IntegerField(help_text="How many of the latest messages the model could not take.")
