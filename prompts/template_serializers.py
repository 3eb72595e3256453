from __future__ import annotations

from typing import Any

from rest_framework import serializers

from prompts.models import PromptLabel, PromptTemplate, PromptVersion
from prompts.models.templates import LABEL_PATTERN, NAME_PATTERN
from prompts.rendering import MOST_VERSION

MOST_TAGS = 20
VERSION_FIELDS = {"content", "variables", "commit_message"}


class StrictSerializer(serializers.ModelSerializer[Any]):
    """Refuses fields that it would leave aside: a typo is no wish, and nobody is told of a change that was not made."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict):
            self._check_fields(data)
        return super().to_internal_value(data)

    def _check_fields(self, data: dict[str, Any]) -> None:
        for name in data:
            known = self.fields.get(name)
            if known is None or known.read_only:
                said = "This cannot be set here." if known else "There is no such field here."
                if name in VERSION_FIELDS:
                    said = "Versions say this: add one to change it."
                raise serializers.ValidationError({name[:60]: said}, code="unknown_field")


class VersionSerializer(StrictSerializer):
    content = serializers.JSONField(help_text="One text, or a list of messages with role and content.")
    variables = serializers.JSONField(
        required=False,
        help_text="Declarations: name, type (string, number, integer, boolean, enum, list), required, default, "
        "choices, description. Without any, each variable that stands in the content is a required text.",
    )
    commit_message = serializers.CharField(max_length=500, required=False, allow_blank=True)
    labels = serializers.SerializerMethodField()

    class Meta:
        model = PromptVersion
        fields = (
            *("id", "number", "content", "variables", "includes", "commit_message", "labels", "author_id"),
            "created_at",
        )
        read_only_fields = ("id", "number", "includes", "author_id", "created_at")

    def get_labels(self, version: PromptVersion) -> list[str]:
        return [label.name for label in version.labels.all()]


class TemplateSerializer(StrictSerializer):
    name = serializers.CharField(read_only=True)
    tags = serializers.ListField(
        child=serializers.CharField(max_length=50), max_length=MOST_TAGS, required=False, default=list
    )
    protected_labels = serializers.ListField(
        child=serializers.RegexField(f"^{LABEL_PATTERN}\\Z"), max_length=MOST_TAGS, required=False
    )
    is_own = serializers.SerializerMethodField()
    labels = serializers.SerializerMethodField()
    usage_count = serializers.SerializerMethodField()

    class Meta:
        model = PromptTemplate
        fields: tuple[str, ...] = (
            *("id", "name", "description", "tags", "is_shared", "is_own", "protected_labels", "latest_version"),
            *("labels", "usage_count", "created_at", "updated_at"),
        )
        read_only_fields: tuple[str, ...] = ("id", "name", "latest_version", "created_at", "updated_at")

    def get_is_own(self, template: PromptTemplate) -> bool:
        return bool(template.user_id == self.context["user_id"])

    def get_labels(self, template: PromptTemplate) -> dict[str, int]:
        return {label.name: label.version.number for label in template.labels.all()}

    def get_usage_count(self, template: PromptTemplate) -> int:
        return getattr(template, "usage_count", 0)


class NewTemplateSerializer(TemplateSerializer):
    name = serializers.RegexField(f"^{NAME_PATTERN}\\Z")
    content = serializers.JSONField(required=False, write_only=True, help_text="Makes the first version.")
    variables = serializers.JSONField(required=False, write_only=True)
    commit_message = serializers.CharField(max_length=500, required=False, allow_blank=True, write_only=True)

    class Meta(TemplateSerializer.Meta):
        fields = (*TemplateSerializer.Meta.fields, "content", "variables", "commit_message")
        read_only_fields = ("id", "latest_version", "created_at", "updated_at")
        # Whether a name is taken, the service finds out.
        validators = ()


class LabelSerializer(serializers.ModelSerializer[PromptLabel]):
    version = serializers.IntegerField(source="version.number")

    class Meta:
        model = PromptLabel
        fields = ("name", "version", "created_at", "moved_at")
        read_only_fields = fields


class LabelMoveSerializer(serializers.Serializer[Any]):
    version = serializers.IntegerField(min_value=1, max_value=MOST_VERSION - 1)
    expected = serializers.IntegerField(
        min_value=0,
        max_value=MOST_VERSION - 1,
        required=False,
        help_text="The version that the label must stand for now; 0: there must be no such label.",
    )


class RenderSerializer(serializers.Serializer[Any]):
    """For the schema; what is asked is read by `prompts.asking`, as in a chat call."""

    label = serializers.CharField(  # type: ignore[assignment]
        required=False, allow_null=True, allow_blank=True, max_length=64, help_text="`production` if nothing is named."
    )
    version = serializers.IntegerField(
        required=False, allow_null=True, min_value=1, max_value=MOST_VERSION - 1, help_text="Instead of a label."
    )
    variables = serializers.DictField(required=False, allow_null=True)


class PromptMessageSerializer(serializers.Serializer[Any]):
    role = serializers.CharField()
    content = serializers.CharField()


class RenderingSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    label = serializers.CharField(allow_blank=True)  # type: ignore[assignment]
    version = serializers.IntegerField(source="number")
    version_id = serializers.UUIDField()
    messages = PromptMessageSerializer(many=True)
    text = serializers.CharField(allow_null=True, help_text="Null where the version is a list of messages.")


class DiffQuerySerializer(serializers.Serializer[Any]):
    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        """Not as attributes: `from` is a word of Python's."""
        return {name: serializers.IntegerField(min_value=1, max_value=MOST_VERSION - 1) for name in ("from", "to")}


class LinesSerializer(serializers.Serializer[Any]):
    op = serializers.ChoiceField(choices=["equal", "insert", "delete", "replace"])
    removed = serializers.ListField(child=serializers.CharField())
    added = serializers.ListField(child=serializers.CharField())


class DiffSerializer(serializers.Serializer[Any]):
    unified = serializers.CharField()
    lines = LinesSerializer(many=True)
