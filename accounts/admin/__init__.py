"""The operators' pages of this application; each module registers its own."""

from accounts.admin.audit_events import AuditEventAdmin
from accounts.admin.channels import ChannelIdentityAdmin
from accounts.admin.keys import ApiKeyAdmin
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
