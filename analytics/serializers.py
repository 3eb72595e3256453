from __future__ import annotations

from dataclasses import asdict
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from accounts.serializers import UserSerializer
from analytics.models import DailyStat
from analytics.overview import Dashboard
from analytics.usage import Usage
from inference.serializers import RequestSerializer
from prompts.enhance.estimates import estimate_of
from prompts.models import TechniqueEffectiveness
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


class EstimateSerializer(serializers.Serializer[Any]):
    """The success rate, from 0 to 1, and where it lies with a probability of 90 %."""

    rate = serializers.FloatField()
    low = serializers.FloatField()
    high = serializers.FloatField()


class TechniqueEffectivenessSerializer(serializers.ModelSerializer[TechniqueEffectiveness]):
    technique = serializers.CharField(source="technique.slug")
    average_rating = serializers.SerializerMethodField()
    estimate = serializers.SerializerMethodField()

    class Meta:
        model = TechniqueEffectiveness
        fields = (
            *("intent", "technique", "shown", "used", "successes", "failures", "rating_count", "average_rating"),
            *("estimate", "updated_at"),
        )
        read_only_fields = fields

    def get_average_rating(self, row: TechniqueEffectiveness) -> float | None:
        return round(row.rating_sum / row.rating_count, 2) if row.rating_count else None

    @extend_schema_field(EstimateSerializer)
    def get_estimate(self, row: TechniqueEffectiveness) -> dict[str, float]:
        return {name: round(value, 4) for name, value in asdict(estimate_of(row)).items()}


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
