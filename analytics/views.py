from __future__ import annotations

from typing import ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework import mixins, viewsets
from rest_framework.decorators import action
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.scopes import Scope
from accounts.views import caller_of
from analytics.filters import EffectivenessFilter
from analytics.models import DailyStat
from analytics.overview import dashboard_of
from analytics.serializers import (
    DailyStatSerializer,
    DashboardSerializer,
    TechniqueEffectivenessSerializer,
    UsagePeriodSerializer,
    UsageReportSerializer,
)
from analytics.usage import usage_of
from prompts.models import TechniqueEffectiveness


class ByDayPagination(CursorPagination):
    ordering = ("-day", "request_type", "model")
    page_size = 100


class DailyStatViewSet(mixins.ListModelMixin, viewsets.GenericViewSet[DailyStat]):
    """Calls, errors, tokens and cost a day and model. For staff who may see the statistics."""

    scope = Scope.ADMIN
    permission_required = "analytics.view_dailystat"
    serializer_class = DailyStatSerializer
    pagination_class = ByDayPagination
    queryset = DailyStat.objects.all()
    filterset_fields: ClassVar = {"day": ["exact", "gte", "lte"], "model": ["exact"], "request_type": ["exact"]}


class TechniqueEffectivenessViewSet(mixins.ListModelMixin, viewsets.GenericViewSet[TechniqueEffectiveness]):
    """What has come of each technique for each intent. For staff who may see the statistics."""

    scope = Scope.ADMIN
    permission_required = "prompts.view_techniqueeffectiveness"
    serializer_class = TechniqueEffectivenessSerializer
    queryset = TechniqueEffectiveness.objects.with_techniques()
    filterset_class = EffectivenessFilter


class MyUsageViewSet(viewsets.ViewSet):
    """What the caller used, from the caller's own request history."""

    scope = Scope.READ

    @extend_schema(parameters=[UsagePeriodSerializer], responses=UsageReportSerializer)
    @action(detail=False, methods=["get"])
    def usage(self, request: Request) -> Response:
        """Calls, errors, tokens and cost by day, by model and by kind of work. Calls that still run are left out."""
        period = UsagePeriodSerializer(data=request.query_params)
        period.is_valid(raise_exception=True)
        usage = usage_of(user_id=caller_of(request).user_id, **period.validated_data)
        return Response(UsageReportSerializer(usage).data)

    @extend_schema(responses=DashboardSerializer)
    @action(detail=False, methods=["get"])
    def dashboard(self, request: Request) -> Response:
        """The caller's account at a glance."""
        return Response(DashboardSerializer(dashboard_of(user_id=caller_of(request).user_id)).data)
