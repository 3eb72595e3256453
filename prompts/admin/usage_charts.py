"""What the versions of a template came to, drawn: a bar for each version, in a chart for each measure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from prompts.models import PromptVersion
from quotas.admin.display import dollars

# More would be a wall; these are the last that were called.
MOST_BARS = 8

# Each of a version's sums, for one of its calls where that says more.
MEASURES: tuple[tuple[str, Callable[[Any], float], Callable[[float], str]], ...] = (
    ("Calls", lambda sums: sums.calls, lambda value: f"{value:,.0f}"),
    ("Failed", lambda sums: 100 * sums.failed / sums.calls, lambda value: f"{value:.1f} %"),
    ("Tokens of a call", lambda sums: sums.tokens / sums.calls, lambda value: f"{value:,.0f}"),
    ("Cost of a call", lambda sums: sums.paid / sums.calls, lambda value: dollars(round(value))),
    ("Time of a call", lambda sums: sums.milliseconds / sums.calls, lambda value: f"{value:,.0f} ms"),
)


def usage_charts(versions: Iterable[PromptVersion]) -> list[dict[str, Any]]:
    """Of versions with their sums of usage (`template_page`), newest first; empty unless two have been called."""
    called: list[Any] = [version for version in versions if getattr(version, "calls", None)][:MOST_BARS]
    if len(called) < 2:
        return []
    charts = []
    for title, measure, written in MEASURES:
        values = [measure(version) for version in called]
        most = max(values) or 1
        bars = [
            {"number": version.number, "text": written(value), "width": f"{100 * value / most:.1f}"}
            for version, value in zip(called, values, strict=True)
        ]
        charts.append({"title": title, "bars": bars})
    return charts
