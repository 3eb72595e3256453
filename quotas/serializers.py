from __future__ import annotations

from typing import Any

from rest_framework import serializers

from accounts.people import CHANNEL_TYPE
from quotas import billing
from quotas.meters import Meter, Period, Resource, Unit
from quotas.models import Plan, PlanLimit, Quota, Reservation, Subscription
from quotas.services.budgets import MOST_LIMIT, Budget

MOST = 2**53


class AmountsField(serializers.DictField):
    """Amounts by meter, `{"llm.tokens": 120, "llm.requests": 1}`; in Python a `dict[Meter, int]`."""

    child = serializers.IntegerField(min_value=0, max_value=MOST)

    def to_internal_value(self, data: Any) -> dict[Meter, int]:
        named = super().to_internal_value(data)
        if not named:
            raise serializers.ValidationError("Name at least one meter, such as llm.requests.", code="required")
        return {self._meter(name): amount for name, amount in named.items()}

    def to_representation(self, value: Any) -> Any:
        return value

    def _meter(self, name: str) -> Meter:
        resource, _, unit = name.partition(".")
        if resource not in Resource.values or unit not in Unit.values:
            raise serializers.ValidationError({name: "There is no such meter."}, code="unknown_meter")
        return Meter(resource, unit)


class PlanLimitSerializer(serializers.ModelSerializer[PlanLimit]):
    class Meta:
        model = PlanLimit
        fields = ("resource_type", "unit", "period", "cycle", "limit", "soft_threshold", "overage_allowed")


class PlanSerializer(serializers.ModelSerializer[Plan]):
    limits = PlanLimitSerializer(many=True, read_only=True)
    is_for_sale = serializers.SerializerMethodField(help_text="Whether a checkout session can be opened for it.")

    class Meta:
        model = Plan
        fields = (
            *("slug", "name", "description", "is_default", "is_for_sale", "position", "trial_days", "rate_limits"),
            *("features", "limits"),
        )

    def get_is_for_sale(self, plan: Plan) -> bool:
        return billing.is_for_sale(plan)


class QuotaSerializer(serializers.ModelSerializer[Quota]):
    remaining = serializers.IntegerField(read_only=True)

    class Meta:
        model = Quota
        fields = (
            "id",
            "resource_type",
            "unit",
            "period",
            "base_limit",
            "granted",
            "limit",
            "current_usage",
            "held",
            "remaining",
            "soft_threshold",
            "overage_allowed",
            "reset_date",
        )
        read_only_fields = fields


class BudgetSerializer(serializers.ModelSerializer[Quota]):
    """A budget of an API key; in Python, after validation, a `Budget`."""

    resource_type = serializers.ChoiceField(choices=Resource.choices)
    unit = serializers.ChoiceField(choices=Unit.choices)
    period = serializers.ChoiceField(choices=Period.choices)
    limit = serializers.IntegerField(source="base_limit", min_value=1, max_value=MOST_LIMIT)
    remaining = serializers.IntegerField(read_only=True)

    class Meta:
        model = Quota
        fields = ("resource_type", "unit", "period", "limit", "current_usage", "held", "remaining", "reset_date")
        read_only_fields = ("current_usage", "held", "reset_date")
        # Two of a kind are refused by the service.
        validators = ()

    @classmethod
    def valid(cls, data: Any) -> list[Budget]:
        """The whole list of a key's budgets, as it was sent."""
        rows = cls(data=data, many=True)
        rows.is_valid(raise_exception=True)
        return [
            Budget(Meter(row["resource_type"], row["unit"]), row["period"], row["base_limit"])
            for row in rows.validated_data
        ]


class PlanNameSerializer(serializers.ModelSerializer[Plan]):
    class Meta:
        model = Plan
        fields = ("slug", "name")


class SubscriptionSerializer(serializers.ModelSerializer[Subscription]):
    plan = PlanNameSerializer()
    next_plan = PlanNameSerializer(allow_null=True)
    current_period_start = serializers.DateTimeField(
        allow_null=True, help_text="Null: on the default plan, without a subscription of one's own yet."
    )
    sold_by = serializers.ChoiceField(
        choices=["stripe"],
        allow_null=True,
        help_text="Who sells it: then there is a customer portal. Null: it costs nothing, or an operator gave it.",
    )

    class Meta:
        model = Subscription
        fields = (
            *("plan", "next_plan", "status", "sold_by", "is_suspended", "current_period_start", "current_period_end"),
            *("trial_end", "grace_until", "cancel_at_period_end", "canceled_at"),
        )
        read_only_fields = fields


class AmountsSerializer(serializers.Serializer[Any]):
    amounts = AmountsField()


class NewReservationSerializer(AmountsSerializer):
    seconds = serializers.IntegerField(
        min_value=1, max_value=86_400, required=False, help_text="How long the hold lives; 900 if not given."
    )


class ReservationSerializer(serializers.ModelSerializer[Reservation]):
    class Meta:
        model = Reservation
        fields = (
            "id",
            "status",
            "amounts",
            "used",
            "charged",
            "idempotency_key",
            "expires_at",
            "created_at",
            "settled_at",
        )
        read_only_fields = fields


class VerdictSerializer(serializers.Serializer[Any]):
    allowed = serializers.BooleanField()
    reason = serializers.CharField(allow_null=True)
    quotas = QuotaSerializer(many=True)
    budgets = BudgetSerializer(many=True, help_text="Those of the API key that asks.")


class ChannelSerializer(serializers.Serializer[Any]):
    channel = serializers.RegexField(
        rf"^{CHANNEL_TYPE.pattern}\Z", required=False, help_text="Such as discord. The credential's own if not given."
    )


class FlagValueField(serializers.JSONField):
    """True or false, a number or a text."""


class FeaturesSerializer(serializers.Serializer[Any]):
    features = serializers.DictField(child=FlagValueField(), help_text="What each flag gives to the caller, by key.")
    variants = serializers.DictField(
        child=serializers.CharField(), help_text="The variant, of those flags whose percentage the caller is within."
    )
