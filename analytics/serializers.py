from __future__ import annotations

from typing import Any

from rest_framework import serializers

from accounts.serializers import UserSerializer
from analytics.models import DailyStat
from analytics.overview import Dashboard
from analytics.usage import Usage
from inference.serializers import RequestSerializer
from quotas.meters import Resource
from quotas.serializers import QuotaSerializer, SubscriptionSerializer


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


class UsagePeriodSerializer(serializers.Serializer[Any]):
    days = serializers.IntegerField(
        min_value=1, max_value=365, default=30, help_text="How many, today (UTC) being the last."
    )


class TotalsSerializer(serializers.Serializer[Any]):
    """Calls that have ended and what they used."""

    requests = serializers.IntegerField()
    errors = serializers.IntegerField()  # type: ignore[assignment]
    input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    seconds = serializers.IntegerField()
    characters = serializers.IntegerField()
    cost = serializers.IntegerField(help_text="Micro-USD.")


class DayTotalsSerializer(TotalsSerializer):
    day = serializers.DateField()


class ModelTotalsSerializer(TotalsSerializer):
    model = serializers.CharField()


class TypeTotalsSerializer(TotalsSerializer):
    request_type = serializers.ChoiceField(choices=Resource.choices)


class RecentUsageSerializer(serializers.Serializer[Usage]):
    days = serializers.IntegerField()
    since = serializers.DateField()
    until = serializers.DateField()
    totals = TotalsSerializer()
    by_day = DayTotalsSerializer(many=True, help_text="Every day, oldest first.")


class UsageReportSerializer(RecentUsageSerializer):
    by_model = ModelTotalsSerializer(many=True, help_text="What was called most comes first.")
    by_type = TypeTotalsSerializer(many=True, help_text="What was called most comes first.")


class CountsSerializer(serializers.Serializer[Any]):
    api_keys = serializers.IntegerField(source="keys", help_text="Those that work now.")
    conversations = serializers.IntegerField(source="talks")
    saved_prompts = serializers.IntegerField(source="prompts")


class DashboardSerializer(serializers.Serializer[Dashboard]):
    user = UserSerializer()
    subscription = SubscriptionSerializer(allow_null=True)
    quotas = QuotaSerializer(many=True)
    usage = RecentUsageSerializer(help_text="Of the last seven days.")
    recent_requests = RequestSerializer(many=True, help_text="The last five, newest first.")
    counts = CountsSerializer(source="user")
