from __future__ import annotations

from typing import Any

from rest_framework import serializers

from prompts.models import SearchDocument
from prompts.search.modes import Mode

MOST_CHARACTERS = 1_000
MOST_CHARACTERS_OF_A_DRAFT = 10_000


class SearchQuerySerializer(serializers.Serializer[Any]):
    """What to look for, and among what."""

    q = serializers.CharField(
        max_length=MOST_CHARACTERS, help_text='Words; "a phrase", or, and -without work as usual.'
    )
    mode = serializers.ChoiceField(choices=[mode.value for mode in Mode], default=Mode.HYBRID.value)
    kind = serializers.ChoiceField(choices=SearchDocument.Kind.choices, required=False)
    tag = serializers.CharField(max_length=50, required=False)
    collection = serializers.UUIDField(required=False, help_text="Saved prompts of this collection.")
    is_favourite = serializers.BooleanField(required=False, help_text="Of the caller's own saved prompts.")
    intent = serializers.CharField(max_length=60, required=False, help_text="Of the history.")
    created_after = serializers.DateTimeField(required=False)
    cursor = serializers.CharField(max_length=1_000, required=False)
    limit = serializers.IntegerField(min_value=1, max_value=100, default=20)


class DraftSerializer(serializers.Serializer[Any]):
    """A text that somebody is writing."""

    text = serializers.CharField(max_length=MOST_CHARACTERS_OF_A_DRAFT)
    kind = serializers.ChoiceField(choices=SearchDocument.Kind.choices, required=False)
    limit = serializers.IntegerField(min_value=1, max_value=20, default=5)
