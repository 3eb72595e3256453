from __future__ import annotations

from typing import Any, ClassVar

from rest_framework import serializers

from prompts.models import PromptHistory, Technique

MOST_COMMENT = 2000
# Of each text in a list.
MOST_LISTED = 2000


class TechniqueSerializer(serializers.ModelSerializer[Technique]):
    name = serializers.CharField(source="slug")
    version = serializers.IntegerField(source="latest_version")
    template = serializers.CharField(help_text="`{{ prompt }}` stands for the text that is improved.")
    parameters = serializers.JSONField(help_text="Declared as the variables of prompt templates are.")

    class Meta:
        model = Technique
        fields = (
            *("name", "title", "description", "when_it_helps", "group", "position", "version", "template"),
            *("parameters", "source_title", "source_url", "updated_at"),
        )
        read_only_fields = fields


class HistorySerializer(serializers.ModelSerializer[PromptHistory]):
    class Meta:
        model = PromptHistory
        fields: tuple[str, ...] = (
            *("id", "original", "enhanced", "intent", "confidence", "techniques", "seed", "model", "request_id"),
            *("rating", "thumbs", "comment", "used_it", "feedback_at", "counted", "created_at"),
        )
        read_only_fields = fields
        extra_kwargs: ClassVar = {
            "techniques": {"help_text": "In the order in which they were applied: name, version, reason and score."},
            "counted": {"help_text": "Techniques that later prompts get more or less often for this feedback."},
        }


class ListedHistorySerializer(HistorySerializer):
    """Of long texts the beginning: a page of whole ones could be as large as the memory of who reads it."""

    original = serializers.CharField(source="original_begin")
    enhanced = serializers.CharField(source="enhanced_begin")
    is_cut = serializers.BooleanField(
        help_text=f"A text has more than {MOST_LISTED:,} characters, of which these are the first."
    )

    class Meta(HistorySerializer.Meta):
        fields = (*HistorySerializer.Meta.fields, "is_cut")
        read_only_fields = fields


class FeedbackSerializer(serializers.Serializer[Any]):
    """What is not sent stays as it was; null takes it back."""

    rating = serializers.IntegerField(min_value=1, max_value=5, required=False, allow_null=True)
    thumbs = serializers.ChoiceField(choices=PromptHistory.Thumbs.choices, required=False, allow_null=True)
    comment = serializers.CharField(max_length=MOST_COMMENT, required=False, allow_blank=True)
    used_it = serializers.BooleanField(required=False, allow_null=True)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not attrs:
            raise serializers.ValidationError("Send a rating, thumbs, a comment or used_it.", code="required")
        if "thumbs" in attrs:
            attrs["thumbs"] = attrs["thumbs"] or ""
        return attrs
