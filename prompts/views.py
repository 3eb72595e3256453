from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from rest_framework import viewsets
from rest_framework.serializers import BaseSerializer

from accounts.ids import UUID_PATTERN
from accounts.scopes import Scope
from accounts.views import caller_of
from prompts.models import SavedPrompt
from prompts.serializers import SavedPromptSerializer


class SavedPromptViewSet(viewsets.ModelViewSet[SavedPrompt]):
    """The caller's saved prompts."""

    scope = Scope.PROMPTS
    serializer_class = SavedPromptSerializer
    queryset = SavedPrompt.objects.none()
    filterset_fields = ("is_favourite",)
    lookup_value_regex = UUID_PATTERN

    def get_queryset(self) -> QuerySet[SavedPrompt]:
        return SavedPrompt.objects.filter(user_id=caller_of(self.request).user_id)

    def perform_create(self, serializer: BaseSerializer[Any]) -> None:
        serializer.save(user_id=caller_of(self.request).user_id)
