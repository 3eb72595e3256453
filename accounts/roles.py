"""What staff who are not superusers may be. Each role is a group of that name; `config.roles` says what it may do."""

from __future__ import annotations

from django.db.models import TextChoices


class Role(TextChoices):
    OPERATOR = "operator", "everything, except to change other staff and groups"
    SUPPORT = "support", "looks up users, their keys, quotas and requests; helps with passwords, keys and quotas"
    ANALYST = "analyst", "sees the dashboard and the statistics"
