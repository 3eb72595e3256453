"""What runs have come to, in numbers that stand beside each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from accounts.admin.display import EMPTY
from inference.models import Request
from quotas.admin.display import dollars

Number = int | None


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of a run, and how it is written."""

    name: str
    of: Callable[[Request], Number]
    written: Callable[[int], str]

    def shown(self, value: Number) -> str:
        return EMPTY if value is None else self.written(value)

    def difference(self, old: Number, new: Number) -> tuple[str, str]:
        """By how much the second is more or less, `+12`, and by which share of the first, `+40 %`."""
        if old is None or new is None:
            return EMPTY, ""
        if old == new:
            return "same", ""
        sign = "+" if new > old else "-"
        share = f"{sign}{100 * abs(new - old) / old:.0f} %" if old else ""
        return f"{sign}{self.written(abs(new - old))}", share


def _count(value: int) -> str:
    return f"{value:,}"


def _milliseconds(value: int) -> str:
    return f"{value:,} ms"


FIGURES = (
    Figure("Input tokens", lambda run: run.input_tokens, _count),
    Figure("Output tokens", lambda run: run.output_tokens, _count),
    Figure("Cost", lambda run: run.cost, dollars),
    Figure("First token", lambda run: run.first_byte_time, _milliseconds),
    Figure("Time", lambda run: run.processing_time, _milliseconds),
)


def figure_rows(runs: list[Request]) -> list[dict[str, object]]:
    """A row for each figure: the value of each run, and with two of them the difference."""
    rows = []
    for figure in FIGURES:
        values = [figure.of(run) for run in runs]
        row: dict[str, object] = {"name": figure.name, "shown": [figure.shown(value) for value in values]}
        if len(values) > 1:
            row["difference"], row["share"] = figure.difference(values[0], values[1])
        rows.append(row)
    return rows
