"""What the pages of providers, models and prices share: all of them are parts of routes."""

from __future__ import annotations

from typing import Any

from django.db import models, transaction
from django.forms import BaseModelFormSet, ModelForm
from django.http import HttpRequest

from accounts.admin.base import AuditedAdmin
from inference.routes import forget_routes


class RouteAdmin(AuditedAdmin):
    """For rows that routes are made of: what is saved is on the road at once in this process."""

    def save_related(
        self, request: HttpRequest, form: ModelForm[Any], formsets: list[BaseModelFormSet[Any, Any]], change: bool
    ) -> None:
        super().save_related(request, form, formsets, change)
        transaction.on_commit(forget_routes)

    def delete_model(self, request: HttpRequest, obj: models.Model) -> None:
        super().delete_model(request, obj)
        transaction.on_commit(forget_routes)
