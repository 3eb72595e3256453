from __future__ import annotations

from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, status, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.exceptions import NotFound
from accounts.ids import UUID_PATTERN
from accounts.scopes import Scope
from accounts.views import caller_of, valid
from quotas import services
from quotas.flags import assignments
from quotas.idempotency import HEADER
from quotas.idempotency_views import idempotent
from quotas.models import FeatureFlag, Plan, Quota, Reservation, Subscription
from quotas.serializers import (
    AmountsSerializer,
    BudgetSerializer,
    ChannelSerializer,
    FeaturesSerializer,
    NewReservationSerializer,
    PlanSerializer,
    QuotaSerializer,
    ReservationSerializer,
    SubscriptionSerializer,
    VerdictSerializer,
)
from quotas.services.budgets import own_key_budgets, set_key_budgets


class PlanViewSet(viewsets.ReadOnlyModelViewSet[Plan]):
    """The plans on offer. Open to everyone."""

    scope = None
    serializer_class = PlanSerializer
    queryset = Plan.objects.filter(is_active=True).prefetch_related("limits")
    lookup_field = "slug"
    lookup_value_regex = "[-a-zA-Z0-9_]+"
    pagination_class = None


class MyQuotaViewSet(mixins.ListModelMixin, viewsets.GenericViewSet[Quota]):
    """What the caller may use, has used, and has held by running calls."""

    scope = Scope.READ
    serializer_class = QuotaSerializer
    queryset = Quota.objects.none()
    pagination_class = None
    filter_backends = ()

    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        quotas = services.current_quotas(user_id=caller_of(request).user_id)
        return Response(QuotaSerializer(quotas, many=True).data)


class MySubscriptionViewSet(viewsets.GenericViewSet[Subscription]):
    """Which plan the caller is on."""

    scope = Scope.READ
    serializer_class = SubscriptionSerializer
    queryset = Subscription.objects.none()

    @extend_schema(responses=SubscriptionSerializer)
    @action(detail=False, methods=["get"])
    def subscription(self, request: Request) -> Response:
        """The subscription that has not ended; who has none yet is on the default plan."""
        found = services.current_subscription(user_id=caller_of(request).user_id)
        if found is None:
            raise NotFound("There is no plan.")
        return Response(SubscriptionSerializer(found).data)


class KeyBudgetViewSet(viewsets.GenericViewSet[Quota]):
    """What one of the caller's API keys may use, of what the caller may."""

    scope = Scope.ADMIN
    serializer_class = BudgetSerializer
    queryset = Quota.objects.none()
    lookup_value_regex = UUID_PATTERN

    @extend_schema(responses=BudgetSerializer(many=True), filters=False)
    @action(detail=True, methods=["get"], pagination_class=None)
    def budgets(self, request: Request, pk: UUID) -> Response:
        return self._answer(pk)

    @budgets.mapping.put
    @extend_schema(request=BudgetSerializer(many=True), responses=BudgetSerializer(many=True))
    def set_budgets(self, request: Request, pk: UUID) -> Response:
        """Replace them all. One that stays keeps its usage; an empty list leaves the key without budgets."""
        caller = caller_of(request)
        wanted = BudgetSerializer.valid(request.data)
        set_key_budgets(key_id=pk, user_id=caller.user_id, budgets=wanted, by=caller)
        return self._answer(pk)

    def _answer(self, key_id: UUID) -> Response:
        found = own_key_budgets(key_id=key_id, user_id=caller_of(self.request).user_id)
        return Response(BudgetSerializer(found, many=True).data)


class FeatureViewSet(viewsets.GenericViewSet[FeatureFlag]):
    """What the feature flags give to the caller."""

    scope = Scope.READ
    serializer_class = FeaturesSerializer
    queryset = FeatureFlag.objects.none()
    pagination_class = None
    filter_backends = ()

    @extend_schema(
        operation_id="features_retrieve", parameters=[ChannelSerializer], responses={200: FeaturesSerializer}
    )
    def list(self, request: Request) -> Response:
        """All active flags. Who is shown a variant counts as exposed to it."""
        query = ChannelSerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        found = assignments(caller_of(request), channel=query.validated_data.get("channel"))
        return Response(
            {
                "features": {key: one.value for key, one in found.items()},
                "variants": {key: one.variant for key, one in found.items() if one.variant},
            }
        )


class QuotaViewSet(viewsets.GenericViewSet[Quota]):
    """Asking and charging in one shot."""

    scope = Scope.INFERENCE
    queryset = Quota.objects.none()
    serializer_class = AmountsSerializer

    @extend_schema(request=AmountsSerializer, responses=VerdictSerializer)
    @action(detail=False, methods=["post"])
    def check(self, request: Request) -> Response:
        """Whether the amounts would be admitted now. Holds nothing."""
        caller = caller_of(request)
        amounts = valid(AmountsSerializer, request)["amounts"]
        verdict = services.check(user_id=caller.user_id, api_key_id=caller.api_key_id, amounts=amounts)
        return Response(
            {
                "allowed": verdict.refusal is None,
                "reason": str(verdict.refusal) if verdict.refusal else None,
                "quotas": QuotaSerializer(verdict.quotas, many=True).data,
                "budgets": BudgetSerializer(verdict.budgets, many=True).data,
            }
        )

    @extend_schema(request=AmountsSerializer, responses={201: QuotaSerializer(many=True)})
    @action(detail=False, methods=["post"])
    @idempotent
    def usage(self, request: Request) -> Response:
        """Charge amounts at once, all or nothing; answers the quotas as they are then."""
        caller = caller_of(request)
        services.consume(
            user_id=caller.user_id,
            api_key_id=caller.api_key_id,
            idempotency_key=request.headers.get(HEADER, ""),
            **valid(AmountsSerializer, request),
        )
        quotas = services.current_quotas(user_id=caller.user_id)
        return Response(QuotaSerializer(quotas, many=True).data, status=status.HTTP_201_CREATED)


class ReservationViewSet(mixins.RetrieveModelMixin, mixins.ListModelMixin, viewsets.GenericViewSet[Reservation]):
    """Holds that the caller makes for work that it runs itself: reserve, then confirm with the real amounts."""

    scope = Scope.INFERENCE
    serializer_class = ReservationSerializer
    queryset = Reservation.objects.none()
    filterset_fields = ("status",)
    lookup_value_regex = UUID_PATTERN

    def get_queryset(self) -> QuerySet[Reservation]:
        return Reservation.objects.of_client(caller_of(self.request).user_id)

    @extend_schema(request=NewReservationSerializer, responses={201: ReservationSerializer})
    @idempotent
    def create(self, request: Request) -> Response:
        values = {"seconds": settings.RESERVATION_SECONDS} | valid(NewReservationSerializer, request)
        caller = caller_of(request)
        hold = services.reserve(
            user_id=caller.user_id,
            api_key_id=caller.api_key_id,
            idempotency_key=request.headers.get(HEADER, ""),
            by_client=True,
            **values,
        )
        return self._answer(hold.id, status.HTTP_201_CREATED)

    @extend_schema(request=AmountsSerializer, responses=ReservationSerializer)
    @action(detail=True, methods=["post"])
    @idempotent
    def confirm(self, request: Request, pk: UUID) -> Response:
        used = valid(AmountsSerializer, request)["amounts"]
        services.confirm(reservation=self._own(pk), used=used)
        return self._answer(pk)

    @extend_schema(request=None, responses=ReservationSerializer)
    @action(detail=True, methods=["post"])
    @idempotent
    def release(self, request: Request, pk: UUID) -> Response:
        services.release(reservation_id=self._own(pk).pk)
        return self._answer(pk)

    def _own(self, id: UUID) -> Reservation:
        return services.own_reservation(reservation_id=id, user_id=caller_of(self.request).user_id)

    def _answer(self, id: UUID, status_code: int = status.HTTP_200_OK) -> Response:
        return Response(ReservationSerializer(self._own(id)).data, status=status_code)
