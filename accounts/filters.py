"""How lists of the API are filtered."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django_filters.filters import BooleanFilter
from django_filters.rest_framework import DjangoFilterBackend
from rest_framework.request import Request
from rest_framework.views import APIView

from accounts.exceptions import InvalidInput

WORDS = {"true", "false", ""}


class StrictFilterBackend(DjangoFilterBackend):  # type: ignore[misc]
    """A truth value that is neither true nor false is refused; the package's own filter would show everything."""

    def get_filterset(self, request: Request, queryset: QuerySet[Any], view: APIView) -> Any:
        filterset = super().get_filterset(request, queryset, view)
        for name, one in filterset.filters.items() if filterset is not None else ():
            if isinstance(one, BooleanFilter) and request.query_params.get(name, "").lower() not in WORDS:
                raise InvalidInput("This is true or false.", code="invalid_boolean", param=name)
        return filterset
