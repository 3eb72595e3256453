from __future__ import annotations

from typing import ClassVar

from rest_framework import mixins, viewsets
from rest_framework.pagination import CursorPagination

from accounts.scopes import Scope
from analytics.models import DailyStat
from analytics.serializers import DailyStatSerializer


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
