from __future__ import annotations

from typing import Any

from rest_framework import serializers

from conversations.models import Message
from prompts.search.modes import Mode
from prompts.search_serializers import MOST_CHARACTERS


class MessageSearchQuerySerializer(serializers.Serializer[Any]):
    """What to look for, and among what."""

    q = serializers.CharField(
        max_length=MOST_CHARACTERS, help_text='Words; "a phrase", or, and -without work as usual.'
    )
    mode = serializers.ChoiceField(
        choices=[Mode.TEXT.value], default=Mode.TEXT.value, help_text="Messages are searched by their words alone."
    )
    channel = serializers.CharField(max_length=50, required=False)
    role = serializers.ChoiceField(choices=Message.Role.choices, required=False)
    model = serializers.CharField(max_length=100, required=False, help_text="Which one has said it.")
    conversation = serializers.UUIDField(required=False)
    created_after = serializers.DateTimeField(required=False)
    created_before = serializers.DateTimeField(required=False)
    cursor = serializers.CharField(max_length=1_000, required=False)
    limit = serializers.IntegerField(min_value=1, max_value=100, default=20)


class FoundMessageSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    conversation = serializers.UUIDField()
    title = serializers.CharField(help_text="Of the conversation.")
    channel = serializers.CharField()
    sequence = serializers.IntegerField()
    role = serializers.CharField()
    model_used = serializers.CharField()
    highlight = serializers.CharField(help_text="HTML: what was found stands in `<mark>`, all else is escaped.")
    score = serializers.FloatField(help_text="The higher the better, in this search.")
    created_at = serializers.DateTimeField()


class FoundMessagesSerializer(serializers.Serializer[Any]):
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)
    mode_used = serializers.CharField()
    results = FoundMessageSerializer(many=True)
