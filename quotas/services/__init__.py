"""Everything that writes plans, subscriptions, quotas and reservations."""

from quotas.services.allowances import (
    add_quota,
    clear_override,
    current_quotas,
    grant,
    reset_usage,
    revoke_grant,
    set_limit,
)
from quotas.services.holds import (
    Hold,
    Verdict,
    check,
    confirm,
    consume,
    own_reservation,
    release,
    reserve,
    settle,
    sweep_expired,
)
from quotas.services.limits import Terms, set_plan_limit
from quotas.services.periods import reset_due, standing
from quotas.services.plans import (
    apply_plan_limits,
    change_plan,
    current_subscription,
    lock_subscription,
    move_quotas,
    plan_limits_changed,
    plan_that_counts,
    provision,
    set_default_plan,
)

__all__ = [
    "Hold",
    "Terms",
    "Verdict",
    "add_quota",
    "apply_plan_limits",
    "change_plan",
    "check",
    "clear_override",
    "confirm",
    "consume",
    "current_quotas",
    "current_subscription",
    "grant",
    "lock_subscription",
    "move_quotas",
    "own_reservation",
    "plan_limits_changed",
    "plan_that_counts",
    "provision",
    "release",
    "reserve",
    "reset_due",
    "reset_usage",
    "revoke_grant",
    "set_default_plan",
    "set_limit",
    "set_plan_limit",
    "settle",
    "standing",
    "sweep_expired",
]
