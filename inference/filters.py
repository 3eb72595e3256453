from typing import ClassVar

from django_filters import rest_framework as filters

from inference.models import Request


class RequestFilter(filters.FilterSet):  # type: ignore[misc]
    created_after = filters.IsoDateTimeFilter(field_name="created_at", lookup_expr="gte")
    created_before = filters.IsoDateTimeFilter(field_name="created_at", lookup_expr="lt")

    class Meta:
        model = Request
        fields: ClassVar = ["request_type", "status", "model", "prompt_version_id"]
