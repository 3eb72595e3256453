"""Who is calling: users, how they sign in, what their programs carry, and the record of what was done."""

from accounts.models.audit import AuditEvent
from accounts.models.channels import ChannelIdentity
from accounts.models.keys import ApiKey
from accounts.models.sessions import BlacklistedToken, OneTimeCode, Session
from accounts.models.two_factor import RecoveryCode, TotpDevice
from accounts.models.users import User, UserPreference

__all__ = [
    "ApiKey",
    "AuditEvent",
    "BlacklistedToken",
    "ChannelIdentity",
    "OneTimeCode",
    "RecoveryCode",
    "Session",
    "TotpDevice",
    "User",
    "UserPreference",
]
