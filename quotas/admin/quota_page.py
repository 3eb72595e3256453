"""What is drawn on the pages of a quota and of its user: how much is left, where it comes from, and what holds it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from accounts.admin.display import EMPTY, label, link_to, link_to_list
from accounts.models import User
from quotas import services
from quotas.admin.display import amount, bar, moment, share_bar
from quotas.admin.grant_states import state_of
from quotas.admin.reservations import link_to_request
from quotas.models import Grant, PlanLimit, Quota, Reservation

# More calls of one user at the same time are a case for the list of reservations.
MOST_HOLDS = 50
REVOKE = (
    '<a class="text-link cursor-pointer" href="{0}" hx-get="{0}" hx-target="#modal-content" hx-select="#dialog" '
    'x-on:htmx:after-on-load="openModal = true">Revoke</a>'
)


def quota_context(quota: Quota, *, viewer: User, may_revoke: bool) -> dict[str, Any]:
    """What the template of a quota's page shows, as it is at this moment, also if the period is over."""
    ((now, grants),) = services.standing([quota], timezone.now())
    numbers = [
        ("Used", now.current_usage),
        ("Held", now.held),
        ("Left", now.remaining),
        ("Limit", now.limit),
        ("Granted of it", now.granted),
        (f"Warning at {now.soft_threshold} %", now.limit * now.soft_threshold // 100),
    ]
    # A grant that is spent counts until the period ends in which it was.
    counted = {"open", "spent"} if now.reset_date == quota.reset_date else {"open"}
    shown = [grant for grant in grants if state_of(grant) in counted]
    holds = list(Reservation.objects.holding(quota.pk)[:MOST_HOLDS])
    return {
        "bar": quota_bar(now),
        "numbers": [(name, amount(value, now.unit)) for name, value in numbers],
        "note": limit_note(now),
        "pools": pools_table(now, shown, may_revoke=may_revoke),
        "holds": holds_table(now, holds, viewer) if holds else None,
        "more_holds": held_list(quota.user_id, "All that this user holds") if len(holds) == MOST_HOLDS else "",
    }


def quota_bar(quota: Quota) -> SafeString:
    return bar(
        used=quota.current_usage,
        held=quota.held,
        limit=quota.limit,
        unit=quota.unit,
        warn_at=quota.soft_threshold,
        mark=True,
    )


def limit_note(quota: Quota) -> str:
    """What a limit that is not the sum of its pools means."""
    if quota.overage_allowed:
        return "Calls over the limit are let through and counted."
    if quota.limit > quota.base_limit + quota.granted:
        return "The limit was lowered under what is used and held, so nothing more is admitted before the reset."
    return ""


def pools_table(quota: Quota, grants: Sequence[Grant], *, may_revoke: bool) -> dict[str, Any]:
    """What the limit is made of; what expires first is spent first."""
    resets = moment(quota.reset_date) if quota.reset_date else "never"
    rows = [[source(quota), share_bar(quota.base_used, quota.base_limit, quota.unit), resets, EMPTY, ""]]
    for grant in grants:
        revoke = revoke_link(grant) if may_revoke and state_of(grant) == "open" else ""
        drawn = share_bar(grant.spent, grant.amount, quota.unit)
        expires = moment(grant.expires_at) if grant.expires_at else "never"
        rows.append([link_to(grant, f"Grant of {amount(grant.amount, quota.unit)}"), drawn, expires])
        rows[-1] += [grant.reason or EMPTY, revoke]
    return {"headers": ["Source", "Spent", "Expires", "Reason", ""], "rows": rows}


def revoke_link(grant: Grant) -> SafeString:
    return format_html(REVOKE, reverse("admin:quotas_grant_revoke", args=[grant.pk]))


def source(quota: Quota) -> SafeString:
    """Whether a quota's base is the plan's or agreed with the user, and what the plan says then."""
    subscription = services.current_subscription(user_id=quota.user_id)
    plan = subscription.plan if subscription else None
    if plan is None:
        return label("agreed with this user", "info") if quota.is_override else label("no plan", "warning")
    limits = PlanLimit.objects.filter(plan=plan, resource_type=quota.resource_type, unit=quota.unit)
    limit = limits.filter(period=quota.period).first()
    if not quota.is_override:
        return format_html("{} {}", "Plan" if limit else "Not in plan", plan)
    said = f"plan {plan}: {amount(limit.limit, quota.unit)}" if limit else f"not in plan {plan}"
    return format_html("{} {}", label("agreed with this user", "info"), said)


def holds_table(quota: Quota, holds: Sequence[Reservation], viewer: User) -> dict[str, Any]:
    rows = [
        [
            link_to(hold, "reservation"),
            share_bar(int(hold.holds[str(quota.pk)]), quota.held, quota.unit),
            moment(hold.created_at),
            moment(hold.expires_at),
            link_to_request(hold, viewer),
        ]
        for hold in holds
    ]
    return {"headers": ["Held by", "Share of all that is held", "Since", "Until at most", "For"], "rows": rows}


def held_list(user_id: Any, text: str) -> SafeString:
    return link_to_list(text, "quotas_reservation", user__id__exact=user_id, status__exact=Reservation.Status.HELD)


def glance(user: User, viewer: User) -> SafeString | str:
    """All quotas of a user as bars, as they are at this moment."""
    quotas = services.standing(list(Quota.objects.of_user(user.pk)), timezone.now())
    if not quotas:
        return "None yet: they are made with the first call."
    bars = format_html_join("", '<div><p class="mb-2">{} {}</p>{}</div>', (glance_row(quota) for quota, _ in quotas))
    holds = Reservation.objects.filter(user=user, status=Reservation.Status.HELD).count()
    held = ""
    if holds and viewer.has_perm("quotas.view_reservation"):
        text = f"{holds:,} open hold{'s' if holds > 1 else ''}"
        held = format_html('<p class="mt-4">{}</p>', held_list(user.pk, text))
    return format_html('<div class="quota-glance">{}</div>{}', bars, held)


def glance_row(quota: Quota) -> tuple[SafeString | str, SafeString | str, SafeString]:
    return link_to(quota), label("agreed", "info") if quota.is_override else "", quota_bar(quota)
