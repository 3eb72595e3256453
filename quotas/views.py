from __future__ import annotations

from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.ids import UUID_PATTERN
from accounts.scopes import Scope
from accounts.views import caller_of
from quotas import services
from quotas.models import Plan, Quota, Reservation
from quotas.serializers import (
    AmountsSerializer,
    NewReservationSerializer,
    PlanSerializer,
    QuotaSerializer,
    ReservationSerializer,
    UsageSerializer,
    VerdictSerializer,
)


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


class QuotaViewSet(viewsets.GenericViewSet[Quota]):
    """Asking and charging in one shot."""

    scope = Scope.INFERENCE
    queryset = Quota.objects.none()
    serializer_class = AmountsSerializer

    @extend_schema(request=AmountsSerializer, responses=VerdictSerializer)
    @action(detail=False, methods=["post"])
    def check(self, request: Request) -> Response:
        """Whether the amounts would be admitted now. Holds nothing."""
        verdict = services.check(
            user_id=caller_of(request).user_id, amounts=_valid(AmountsSerializer, request)["amounts"]
        )
        return Response(
            {
                "allowed": verdict.refusal is None,
                "reason": str(verdict.refusal) if verdict.refusal else None,
                "quotas": QuotaSerializer(verdict.quotas, many=True).data,
            }
        )

    @extend_schema(request=UsageSerializer, responses={201: QuotaSerializer(many=True)})
    @action(detail=False, methods=["post"])
    def usage(self, request: Request) -> Response:
        """Charge amounts at once, all or nothing; answers the quotas as they are then."""
        user_id = caller_of(request).user_id
        services.consume(user_id=user_id, **_valid(UsageSerializer, request))
        quotas = services.current_quotas(user_id=user_id)
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
    def create(self, request: Request) -> Response:
        values = {"seconds": settings.RESERVATION_SECONDS} | _valid(NewReservationSerializer, request)
        hold = services.reserve(user_id=caller_of(request).user_id, by_client=True, **values)
        return self._answer(hold.id, status.HTTP_201_CREATED)

    @extend_schema(request=AmountsSerializer, responses=ReservationSerializer)
    @action(detail=True, methods=["post"])
    def confirm(self, request: Request, pk: UUID) -> Response:
        used = _valid(AmountsSerializer, request)["amounts"]
        services.confirm(reservation=self._own(pk), used=used)
        return self._answer(pk)

    @extend_schema(request=None, responses=ReservationSerializer)
    @action(detail=True, methods=["post"])
    def release(self, request: Request, pk: UUID) -> Response:
        services.release(reservation_id=self._own(pk).pk)
        return self._answer(pk)

    def _own(self, id: UUID) -> Reservation:
        return services.own_reservation(reservation_id=id, user_id=caller_of(self.request).user_id)

    def _answer(self, id: UUID, status_code: int = status.HTTP_200_OK) -> Response:
        return Response(ReservationSerializer(self._own(id)).data, status=status_code)


def _valid(serializer_class: type[serializers.Serializer[Any]], request: Request) -> dict[str, Any]:
    serializer = serializer_class(data=request.data)
    serializer.is_valid(raise_exception=True)
    return dict(serializer.validated_data)
