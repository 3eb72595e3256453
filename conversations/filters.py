from typing import Any, ClassVar

from django.db.models import QuerySet
from django_filters import rest_framework as filters

from conversations.models import Conversation


class ConversationFilter(filters.FilterSet):  # type: ignore[misc]
    archived = filters.BooleanFilter(field_name="is_active", exclude=True)
    pinned = filters.BooleanFilter(field_name="pinned_at", lookup_expr="isnull", exclude=True)
    tag = filters.CharFilter(method="with_tag")
    last_activity_after = filters.IsoDateTimeFilter(field_name="last_activity", lookup_expr="gte")
    last_activity_before = filters.IsoDateTimeFilter(field_name="last_activity", lookup_expr="lt")

    class Meta:
        model = Conversation
        fields: ClassVar = ["channel", "is_active"]

    def with_tag(self, rows: QuerySet[Any], _name: str, value: str) -> QuerySet[Any]:
        return rows.filter(tags__contains=[value])
