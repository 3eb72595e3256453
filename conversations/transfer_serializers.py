from __future__ import annotations

from typing import Any

from rest_framework import serializers

from conversations.transfer.exporting import ExportFormat
from conversations.transfer.formats import Format


class ExportAllQuerySerializer(serializers.Serializer[Any]):
    format = serializers.ChoiceField(choices=["jsonl", "markdown"], default="jsonl")


class ExportOneQuerySerializer(serializers.Serializer[Any]):
    format = serializers.ChoiceField(choices=[kind.value for kind in ExportFormat], default="jsonl")


class ImportQuerySerializer(serializers.Serializer[Any]):
    format = serializers.ChoiceField(
        choices=[kind.value for kind in Format], required=False, help_text="Else it shows in each conversation."
    )


class ImportedConversationsSerializer(serializers.Serializer[Any]):
    conversations = serializers.IntegerField()
    messages = serializers.IntegerField()
