"""The operators' pages of this application; each module registers its own."""

from django.contrib import admin

from accounts.admin.audit_events import AuditEventAdmin
from accounts.admin.channels import ChannelIdentityAdmin
from accounts.admin.keys import ApiKeyAdmin
from accounts.admin.own import own_urls
from accounts.admin.sessions import BlacklistedTokenAdmin, SessionAdmin
from accounts.admin.users import GroupAdmin, UserAdmin

__all__ = [
    "ApiKeyAdmin",
    "AuditEventAdmin",
    "BlacklistedTokenAdmin",
    "ChannelIdentityAdmin",
    "GroupAdmin",
    "SessionAdmin",
    "UserAdmin",
]

# The theme's site looks for this name, and puts these before its own.
admin.site.extra_urls = own_urls  # type: ignore[attr-defined]
