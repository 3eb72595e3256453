"""What each role may do, and how its group gets it.

Whoever adds a model, or a permission to one, lets the groups know by a migration of `config`: its dependencies name the
migration that made the model, and `operations = [migrations.RunPython(grant, migrations.RunPython.noop)]`.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

from django.apps import apps as installed
from django.contrib.auth.management import create_permissions
from django.db import DEFAULT_DB_ALIAS

from accounts.roles import Role

# Patterns of `app.codename`.
PERMISSIONS: dict[str, tuple[str, ...]] = {
    Role.OPERATOR: (
        *("accounts.*", "quotas.*", "inference.*", "prompts.*", "conversations.*", "analytics.*"),
        "auth.*_group",
    ),
    # Neither conversations, saved prompts nor the bodies of requests: what people write is none of its business.
    Role.SUPPORT: (
        *("accounts.support_user", "accounts.view_user", "accounts.view_channelidentity", "accounts.view_session"),
        *("accounts.view_apikey", "accounts.view_auditevent"),
        # Not the events of Stripe: they hold addresses and amounts of invoices.
        *("quotas.view_quota", "quotas.view_grant", "quotas.view_reservation", "quotas.view_subscription"),
        "quotas.view_event",
        "inference.view_request",
    ),
    Role.ANALYST: ("analytics.view_*", "prompts.view_techniqueeffectiveness"),
}


def may(role: str, permission: str) -> bool:
    return any(fnmatchcase(permission, pattern) for pattern in PERMISSIONS[role])


def grant(apps: Any, schema_editor: Any) -> None:
    """Make the groups, and give each what its role may do. A migration's operation.

    Only adds: what operators have given to a group besides stays with it, and what they took away comes back.
    Django makes the rows of permissions only when all migrations are done, so they are made here first.
    """
    alias = schema_editor.connection.alias if schema_editor else DEFAULT_DB_ALIAS
    for app in installed.get_app_configs():
        create_permissions(app, verbosity=0, using=alias, apps=apps)
    permissions = apps.get_model("auth", "Permission").objects.using(alias).select_related("content_type")
    known = {f"{permission.content_type.app_label}.{permission.codename}": permission for permission in permissions}
    for role in PERMISSIONS:
        group, _created = apps.get_model("auth", "Group").objects.using(alias).get_or_create(name=str(role))
        group.permissions.add(*(permission for name, permission in known.items() if may(role, name)))
