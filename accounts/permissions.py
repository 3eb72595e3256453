"""What a credential is good for: each view declares one `scope`, and here callers are held to it."""

from __future__ import annotations

from typing import Any, cast

from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from accounts.caller import Caller
from accounts.exceptions import NotAllowed
from accounts.scopes import Scope


def check_scope(caller: Caller, scope: Scope, method: str | None, *, read_suffices: bool = True) -> None:
    """`NotAllowed` unless the caller has the scope; `read` is enough for what changes nothing, if `read_suffices`."""
    if caller.has_scope(scope):
        return
    if read_suffices and method in SAFE_METHODS and caller.has_scope(Scope.READ):
        return
    raise NotAllowed(f"This API key does not have the scope {scope}.", code="scope_required")


class ScopePermission(BasePermission):
    """The default of every API view. A view says `scope = Scope.…`; `scope = None` is open to everyone.

    `read_suffices = False` keeps keys with nothing but `read` from what it reads. `permission_required`, a permission
    of Django's, is for views that only staff may use.
    """

    def has_permission(self, request: Request, view: Any) -> bool:
        scope: Scope | None = view.scope
        if scope is None:
            return True
        caller = cast("Caller | None", request.user)
        if caller is None:
            return False
        check_scope(caller, scope, request.method, read_suffices=getattr(view, "read_suffices", True))
        permission = getattr(view, "permission_required", None)
        return permission is None or caller.has_perm(permission)
