"""What a feature flag gives to whom.

The first that applies decides: a rule for the user, for the user's plan, for the channel; the percentage, and among
those within it the variants; the flag's own value.

Who is within the percentage, and who gets which variant, is computed from the user's id alone, so it is the same in
every process, on every day, without a cookie or a row:

- The first 8 bytes of SHA-256 of `salt:key:user`, modulo 10,000, lie under the percentage in hundredths. So a higher
  percentage only adds users.
- Of the variants, a user gets the one with the smallest `-ln(u) / weight`, where `u` is the first 8 bytes of SHA-256
  of `salt:key:user:variant`, plus 1, over 2**64 (weighted rendezvous hashing: Thaler and Ravishankar 1998, with the
  weights of Schindelhauer and Schomaker 2005). So with changed weights, users go over only to variants whose weight has
  grown in relation to the one that they leave.

A user who was merged into another is that other one here as well: callers have the target's id already.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from accounts.caller import Caller
from quotas import exposures
from quotas.flag_store import Flag, Variant, active_flags, plan_of
from quotas.flag_values import FlagValue

BASIS_POINTS = 10_000
# The variant of those who are within the percentage of a flag that has no variants.
ON = "on"


class Reason(StrEnum):
    UNKNOWN = "unknown"
    USER = "user"
    PLAN = "plan"
    CHANNEL = "channel"
    PERCENTAGE = "percentage"
    VARIANT = "variant"
    DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Assignment:
    """What somebody gets, and why. `variant` is empty unless the percentage has decided."""

    value: FlagValue | None
    reason: Reason
    variant: str = ""


def feature(
    user: Caller | UUID | None, key: str, *, channel: str | None = None, default: FlagValue | None = None
) -> FlagValue | None:
    """What the flag gives to a user, or to nobody; `default` if there is no such flag, or it is off.

    The channel is the caller's, unless it is named.
    """
    return assignment(user, key, channel=channel, default=default).value


def assignment(
    user: Caller | UUID | None, key: str, *, channel: str | None = None, default: FlagValue | None = None
) -> Assignment:
    """As `feature`, with the variant and the reason. The exposure to a variant is counted."""
    flag = active_flags().get(key)
    if flag is None:
        return Assignment(default, Reason.UNKNOWN)
    found = decide(flag, user, channel)
    _expose(user, {flag.id: found})
    return found


def assignments(user: Caller | UUID | None, *, channel: str | None = None) -> dict[str, Assignment]:
    """What every active flag gives to a user, by key. The exposures are counted."""
    flags = active_flags()
    found = {key: decide(flag, user, channel) for key, flag in flags.items()}
    _expose(user, {flags[key].id: one for key, one in found.items()})
    return found


def explain(user: UUID | None, key: str, *, channel: str | None = None) -> Assignment:
    """As `assignment` without a default; counts nothing."""
    flag = active_flags().get(key)
    return decide(flag, user, channel) if flag else Assignment(None, Reason.UNKNOWN)


def decide(flag: Flag, user: Caller | UUID | None, channel: str | None) -> Assignment:
    """What this flag gives; touches nothing but the plan of the user, and that only if a rule names a plan."""
    user_id = _id_of(user)
    if user_id is not None and str(user_id) in flag.users:
        return Assignment(flag.users[str(user_id)], Reason.USER)
    if user_id is not None and flag.plans and (plan := plan_of(user_id)) in flag.plans:
        return Assignment(flag.plans[plan], Reason.PLAN)
    if channel is None and isinstance(user, Caller):
        channel = user.channel
    if channel is not None and channel in flag.channels:
        return Assignment(flag.channels[channel], Reason.CHANNEL)
    if user_id is None or not _takes_part(flag, user_id):
        return Assignment(flag.value, Reason.DEFAULT)
    if not flag.variants:
        return Assignment(flag.percentage_value, Reason.PERCENTAGE, ON)
    variant = _variant_of(flag, user_id)
    return Assignment(variant.value, Reason.VARIANT, variant.name)


def _takes_part(flag: Flag, user_id: UUID) -> bool:
    return _number(flag, user_id) % BASIS_POINTS < flag.basis_points


def _variant_of(flag: Flag, user_id: UUID) -> Variant:
    def distance(variant: Variant) -> float:
        fraction = (_number(flag, user_id, variant.name) + 1) / 2**64
        return -math.log(fraction) / variant.weight

    return min(flag.variants, key=distance)


def _number(flag: Flag, *parts: object) -> int:
    text = ":".join(map(str, (flag.salt, flag.key, *parts)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])


def _expose(user: Caller | UUID | None, found: dict[str, Assignment]) -> None:
    user_id = _id_of(user)
    variants = {flag_id: one.variant for flag_id, one in found.items() if one.variant}
    if user_id is not None and variants:
        exposures.note(user_id, variants)


def _id_of(user: Caller | UUID | None) -> UUID | None:
    return user.user_id if isinstance(user, Caller) else user
