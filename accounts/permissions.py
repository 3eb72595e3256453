"""What a caller must be allowed to do to reach a view."""

from __future__ import annotations

from typing import cast

from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from accounts.caller import Caller


class HasPermission(BasePermission):
    """For staff with the permission of Django's that the view names: `permission_required = "app.codename"`."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        caller = cast("Caller | None", request.user)
        return caller is not None and caller.has_perm(view.permission_required)  # type: ignore[attr-defined]
