"""What a measurement hands on, and the processes that take it."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import statistics
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field


@dataclass(slots=True)
class Sample:
    """Calls of one process: how long each took (`latencies`, seconds), in how many seconds altogether, what failed."""

    seconds: float
    latencies: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    peak: int = 0


@dataclass(frozen=True, slots=True)
class Figures:
    """Calls a second, and the median and the 99th percentile of their milliseconds."""

    rps: float
    p50_ms: float
    p99_ms: float

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> Figures:
        """Of samples that were taken side by side."""
        latencies = sorted(latency for sample in samples for latency in sample.latencies)
        rps = sum(len(sample.latencies) / sample.seconds for sample in samples)
        return cls(round(rps, 1), percentile(latencies, 0.5), percentile(latencies, 0.99))

    @classmethod
    def median(cls, rounds: Iterable[Figures]) -> Figures:
        """Of the same measurement, taken several times: each number's own median."""
        known = list(rounds)
        rps = round(statistics.median(one.rps for one in known), 1)
        p50 = round(statistics.median(one.p50_ms for one in known), 3)
        return cls(rps, p50, round(statistics.median(one.p99_ms for one in known), 3))


def percentile(latencies: Sequence[float], share: float) -> float:
    """The nearest-rank percentile of sorted seconds, in milliseconds; NaN of none."""
    if not latencies:
        return math.nan
    return round(latencies[max(0, math.ceil(share * len(latencies)) - 1)] * 1000, 3)


def crew(size: int) -> ProcessPoolExecutor:
    """Processes for load: they leave Ctrl-C to us, and end when we end, however we end."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(size, mp_context=context, initializer=_follow_parent)


def _follow_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
