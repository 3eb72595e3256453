"""The budgets, added to the pages of API keys."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from unfold.decorators import action, display

from accounts.admin.keys import ApiKeyAdmin
from accounts.models import ApiKey
from quotas.admin.display import bar
from quotas.admin.forms import BudgetsDialog
from quotas.services.budgets import current_budgets, set_key_budgets

NO_BUDGETS = "No budgets: the key may use all that its owner may."

admin.site.unregister(ApiKey)


@admin.register(ApiKey)
class ApiKeyWithBudgetsAdmin(ApiKeyAdmin):
    actions_detail: Any = ("set_budgets", *ApiKeyAdmin.actions_detail)
    readonly_fields: Any = ("shown_budgets", *ApiKeyAdmin.readonly_fields)
    fieldsets: Any = (
        ApiKeyAdmin.fieldsets[0],
        ("Budgets", {"fields": ("shown_budgets",)}),
        *ApiKeyAdmin.fieldsets[1:],
    )

    @display(description="what this key alone may use")
    def shown_budgets(self, key: ApiKey) -> SafeString | str:
        rows = current_budgets(key_id=key.pk)
        drawn = ((row, bar(used=row.current_usage, held=row.held, limit=row.base_limit, unit=row.unit)) for row in rows)
        return format_html_join("", '<div class="mb-4"><p class="mb-2">{}</p>{}</div>', drawn) if rows else NO_BUDGETS

    def has_set_budgets_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.has_perm("quotas.change_quota"))

    @action(
        description="Set budgets",
        icon="savings",
        permissions=["set_budgets"],
        dialog={
            "title": "Set budgets",
            "description": "They bound what this key may use, for whomever it calls. Its owner's quotas count as well.",
            "form_class": BudgetsDialog,
            "form_submit_text": "Set budgets",
        },
    )
    def set_budgets(self, request: HttpRequest, form: BudgetsDialog, object_id: str) -> HttpResponse:
        key = self.find(request, object_id)
        return self.carry_out(
            request,
            f"The budgets of {key} are set.",
            set_key_budgets,
            key_id=key.pk,
            user_id=key.user_id,
            budgets=form.cleaned_data["budgets"],
            reason=form.cleaned_data["reason"],
        )
