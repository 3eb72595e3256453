"""Everything that writes plans, subscriptions, quotas and reservations."""

from quotas.services.allowances import current_quotas, grant, reset_due, reset_usage, set_limit
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
from quotas.services.plans import (
    change_plan,
    current_subscription,
    lock_subscription,
    move_quotas,
    plan_that_counts,
    provision,
    set_default_plan,
)

__all__ = [
    "Hold",
    "Verdict",
    "change_plan",
    "check",
    "confirm",
    "consume",
    "current_quotas",
    "current_subscription",
    "grant",
    "lock_subscription",
    "move_quotas",
    "own_reservation",
    "plan_that_counts",
    "provision",
    "release",
    "reserve",
    "reset_due",
    "reset_usage",
    "set_default_plan",
    "set_limit",
    "settle",
    "sweep_expired",
]
