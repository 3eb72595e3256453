from __future__ import annotations

from rest_framework import serializers

from prompts.models import SavedPrompt


class SavedPromptSerializer(serializers.ModelSerializer[SavedPrompt]):
    class Meta:
        model = SavedPrompt
        fields = ("id", "title", "content", "is_favourite", "created_at", "updated_at")
        read_only_fields = ("id", "created_at", "updated_at")
