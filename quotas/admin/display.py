"""Amounts and money as operators read them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from django.utils.html import format_html
from django.utils.safestring import SafeString

from accounts.admin.display import EMPTY
from quotas.meters import Unit

MICRO = 1_000_000


def dollars(micro: int) -> str:
    """Micro-USD as dollars: `$1,234.50`, and `$0.000123` where two places would say nothing."""
    if micro % 10_000 == 0:
        return f"${micro / MICRO:,.2f}"
    return f"${micro / MICRO:,.6f}".rstrip("0")


def moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M}"


def amount(value: int, unit: str) -> str:
    return dollars(value) if unit == Unit.COST else f"{value:,}"


def bar(*, used: int, held: int, limit: int, unit: str, warn_at: int = 80, mark: bool = False) -> SafeString:
    """How much of a limit is used and held, as a bar with the numbers under it.

    It turns to a warning at `warn_at` percent, which a `mark` may show, and to an alarm when nothing is left.
    """
    share = 100 * (used + held) / limit if limit else 100
    level = "full" if share >= 100 else "warn" if share >= warn_at else "calm"
    scale = max(limit, used + held, 1)
    text = f"{amount(used, unit)} of {amount(limit, unit)}"
    if held:
        text += f", {amount(held, unit)} held"
    return format_html(
        '<div class="usage-bar" data-level="{}" role="img" aria-label="{}: {}%">'
        '<div class="usage-track"><i style="width:{}%"></i><b style="width:{}%"></b>{}</div><span>{}</span></div>',
        level,
        text,
        round(share),
        round(100 * used / scale, 2),
        round(100 * held / scale, 2),
        format_html('<u style="left:{}%"></u>', round(warn_at * limit / scale, 2)) if mark else "",
        text,
    )


def share_bar(part: int, whole: int, unit: str = "") -> SafeString:
    """How much of a whole one part is, as a bar with the numbers under it."""
    percent = 100 * part / whole if whole else 0
    text = f"{amount(part, unit)} of {amount(whole, unit)} ({percent:.1f} %)"
    return format_html(
        '<div class="usage-bar" data-level="calm" role="img" aria-label="{}">'
        '<div class="usage-track"><i style="width:{}%"></i></div><span>{}</span></div>',
        text,
        round(percent, 2),
        text,
    )


def amounts(values: Mapping[str, int] | None) -> str:
    """Amounts by meter, `{"llm.tokens": 120}`, in one line."""
    if not values:
        return EMPTY
    return ", ".join(f"{amount(value, name.rpartition('.')[2])} {name}" for name, value in sorted(values.items()))
