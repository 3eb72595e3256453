from __future__ import annotations

from typing import Any, ClassVar

from rest_framework import serializers

from prompts.models import Collection, SavedPrompt, ShareLink
from prompts.saved import MOST_TAGS, variables_of
from prompts.saved_rows import MOST_TAG


class OwnedSerializer(serializers.ModelSerializer[Any]):
    """Of what may be another's: then nothing is told of where its owner keeps it, unless that can be read, too."""

    is_own = serializers.SerializerMethodField()

    def get_is_own(self, row: Any) -> bool:
        return bool(row.user_id == self.context["user_id"])

    def to_representation(self, instance: Any) -> dict[str, Any]:
        shown = super().to_representation(instance)
        if not shown["is_own"]:
            shown |= self.hidden(instance)
        return shown

    def hidden(self, row: Any) -> dict[str, Any]:
        raise NotImplementedError


class SavedPromptSerializer(OwnedSerializer):
    collection = serializers.UUIDField(
        source="collection_id", required=False, allow_null=True, help_text="A collection of the caller's; null: none."
    )
    tags = serializers.ListField(
        child=serializers.RegexField(r"^[^,]*\Z", max_length=MOST_TAG), max_length=MOST_TAGS, required=False
    )
    variables = serializers.SerializerMethodField(help_text="The {{variables}} that stand in the content.")

    class Meta:
        model = SavedPrompt
        fields = (
            *("id", "title", "description", "content", "variables", "tags", "collection", "position", "is_favourite"),
            *("is_shared", "is_open", "is_own", "created_at", "updated_at"),
        )
        read_only_fields = ("id", "position", "is_open", "created_at", "updated_at")
        extra_kwargs: ClassVar = {"content": {"trim_whitespace": False}}

    def validate_content(self, content: str) -> str:
        """As it was given: spaces around it may be meant. Spaces alone are no prompt."""
        if not content.strip():
            raise serializers.ValidationError("This field may not be blank.", code="blank")
        return content

    def get_variables(self, prompt: SavedPrompt) -> list[str]:
        return variables_of(prompt.content)

    def validate_tags(self, tags: list[str]) -> list[str]:
        return list(dict.fromkeys(tags))

    def hidden(self, row: Any) -> dict[str, Any]:
        is_reachable = row.collection is not None and row.collection.is_open
        return {"is_favourite": False} | ({} if is_reachable else {"collection": None, "position": 0})


class CollectionSerializer(OwnedSerializer):
    parent = serializers.UUIDField(  # type: ignore[assignment]
        source="parent_id", required=False, allow_null=True, help_text="The collection that it is in; null: none."
    )

    class Meta:
        model = Collection
        fields = (
            *("id", "name", "description", "parent", "position", "is_shared", "is_open", "is_own"),
            *("created_at", "updated_at"),
        )
        read_only_fields = ("id", "position", "is_open", "created_at", "updated_at")

    def hidden(self, row: Any) -> dict[str, Any]:
        is_reachable = row.parent is not None and row.parent.is_open
        return {} if is_reachable else {"parent": None, "position": 0}


class MoveSerializer(serializers.Serializer[Any]):
    before = serializers.UUIDField(required=False, help_text="Right before this one.")
    after = serializers.UUIDField(required=False, help_text="Right behind this one.")


class PromptMoveSerializer(MoveSerializer):
    collection = serializers.UUIDField(
        required=False, allow_null=True, help_text="To the end of this one; null: the top."
    )


class CollectionMoveSerializer(MoveSerializer):
    parent = serializers.UUIDField(  # type: ignore[assignment]
        required=False, allow_null=True, help_text="To the end of this one; null: the top."
    )


class CopySerializer(serializers.Serializer[Any]):
    collection = serializers.UUIDField(
        required=False, allow_null=True, help_text="Where the copy goes; null or nothing: the top."
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Who names the place by another name, such as `parent`, would find the copy at the top."""
        for name in sorted(set(self.initial_data) - set(self.fields)):
            raise serializers.ValidationError({name: ["There is no such field."]}, code="unknown_field")
        return attrs


class ShareLinkSerializer(serializers.ModelSerializer[ShareLink]):
    class Meta:
        model = ShareLink
        fields = ("id", "prefix", "expires_at", "revoked_at", "last_used_at", "use_count", "created_at")
        read_only_fields = ("id", "prefix", "revoked_at", "last_used_at", "use_count", "created_at")


class NewShareLinkSerializer(ShareLinkSerializer):
    token = serializers.CharField(read_only=True, help_text="Shown once.")

    class Meta(ShareLinkSerializer.Meta):
        fields = (*ShareLinkSerializer.Meta.fields, "token")  # type: ignore[assignment]


# What is read through a link -----------------------------------------------------------------------------------------


class SharedPromptSerializer(serializers.ModelSerializer[SavedPrompt]):
    """Nothing of its owner, and no ids."""

    variables = serializers.SerializerMethodField()

    class Meta:
        model = SavedPrompt
        fields: tuple[str, ...] = ("title", "description", "content", "variables", "tags", "updated_at")

    def get_variables(self, prompt: SavedPrompt) -> list[str]:
        return variables_of(prompt.content)


class PlacedPromptSerializer(SharedPromptSerializer):
    folder = serializers.SerializerMethodField(help_text="The path of its folder, from the shared one on.")

    class Meta(SharedPromptSerializer.Meta):
        fields = (*SharedPromptSerializer.Meta.fields, "folder")

    def get_folder(self, prompt: SavedPrompt) -> list[str]:
        path: list[str] = self.context["paths"][prompt.collection_id]
        return path


class SharedFolderSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    description = serializers.CharField()
    folders = serializers.ListField(child=serializers.ListField(child=serializers.CharField()))


class SharedSerializer(serializers.Serializer[Any]):
    """A prompt, or a folder with a page of the prompts in it."""

    type = serializers.ChoiceField(choices=["prompt", "collection"])
    prompt = SharedPromptSerializer(required=False)
    collection = SharedFolderSerializer(required=False)
    next = serializers.URLField(required=False, allow_null=True)
    previous = serializers.URLField(required=False, allow_null=True)
    results = PlacedPromptSerializer(many=True, required=False)


class CopiedSerializer(serializers.Serializer[Any]):
    """What a link was copied to: one of the two."""

    prompt = SavedPromptSerializer(allow_null=True)
    collection = CollectionSerializer(allow_null=True)


# Files ---------------------------------------------------------------------------------------------------------------


class ExportQuerySerializer(serializers.Serializer[Any]):
    format = serializers.ChoiceField(choices=["json", "csv"], default="json")


class ImportQuerySerializer(serializers.Serializer[Any]):
    partial = serializers.BooleanField(  # type: ignore[assignment]
        default=False, help_text="Import the good rows, though there are broken ones."
    )
    collection = serializers.UUIDField(required=False, help_text="Put everything in this collection.")


class RowErrorSerializer(serializers.Serializer[Any]):
    row = serializers.IntegerField(help_text="Counted from 1, without the line of names.")
    message = serializers.CharField()
    code = serializers.CharField()


class ImportedSerializer(serializers.Serializer[Any]):
    imported = serializers.IntegerField()
    skipped = serializers.IntegerField(help_text="They were there already, with this title and text in this folder.")
    failed = serializers.IntegerField()
    collections = serializers.IntegerField(help_text="How many were made.")
    errors = RowErrorSerializer(many=True)  # type: ignore[assignment]
    ignored_columns = serializers.ListField(child=serializers.CharField())
