"""The one way to write an audit event."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db import models

from accounts.caller import Caller
from accounts.models import AuditEvent, User


def record(
    action: str,
    *,
    by: Caller | User | None,
    target: models.Model | None = None,
    status: AuditEvent.Status = AuditEvent.Status.SUCCESS,
    ip: str | None = None,
    user_agent: str = "",
    **metadata: Any,
) -> AuditEvent:
    """Write that `by` did `action` to `target`, inside the caller's transaction.

    `ip` and `user_agent` are the caller's own unless they are given. `metadata` must hold no secret and no personal
    data: it stays when its owner is erased.
    """
    caller = by if isinstance(by, Caller) else None
    if caller is not None and caller.acted_by is not None:
        metadata["acted_by"] = str(caller.acted_by)
    actor_id: UUID | None = by.pk if by is not None else None
    return AuditEvent.objects.create(
        actor_id=actor_id,
        actor_email=(by.email or "") if by is not None else "",
        action=action,
        target_type=target._meta.label_lower if target is not None else "",
        target_id=str(target.pk) if target is not None else "",
        status=status,
        ip=ip or (caller.ip if caller else None),
        user_agent=(user_agent or (caller.user_agent if caller else ""))[:300],
        metadata=metadata,
    )
