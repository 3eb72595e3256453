from __future__ import annotations

from rest_framework import serializers

from analytics.models import DailyStat


class DailyStatSerializer(serializers.ModelSerializer[DailyStat]):
    class Meta:
        model = DailyStat
        fields = (
            "day",
            "request_type",
            "model",
            "requests",
            "errors",
            "input_tokens",
            "output_tokens",
            "cost",
            "users",
        )
        read_only_fields = fields
