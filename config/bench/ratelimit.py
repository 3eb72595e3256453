"""`manage.py bench ratelimit`: what one decision about rate limits costs, beside the bare round trips to Redis."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, cast

from accounts.caller import Caller
from accounts.snapshots import redis_client
from config.bench import machine, rows
from config.bench.figures import Figures, Sample
from config.bench.installation import Installation
from config.embedded.process import StartProblemError
from quotas import rates
from quotas.windows import RouteClass

EMPTY = "return 1"
ROUNDS, CALLS = 15, 2_000
QUICK_ROUNDS, QUICK_CALLS = 3, 300

Measured = Callable[[], Any]


def run(*, quick: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Start the stores, measure, stop them. Raises `StartProblemError`, `StopRequestedError`."""
    load_before = machine.load()
    installation = Installation(say)
    installation.supervisor.catch_signals()
    try:
        installation.start()
        say("Decisions are measured.")
        (customer,) = rows.make_customers(1)
        caller = Caller(user_id=customer.user_id, api_key_id=customer.api_key_id)
        rounds, calls = (QUICK_ROUNDS, QUICK_CALLS) if quick else (ROUNDS, CALLS)
        result = measure(caller, rounds=rounds, calls=calls)
        return result | machine.describe("redis") | {"load_before": load_before}
    finally:
        installation.stop()


def measure(caller: Caller, *, rounds: int, calls: int) -> dict[str, Any]:
    """Each of the three in turn, `calls` times in a row, `rounds` times over; the medians of the rounds.

    `empty` is EVALSHA of a script that answers at once, without keys and arguments; `script` is EVALSHA of our script,
    with what `decision` sends; `decision` is what a call pays. `ratio` is between their medians.
    """
    measured = {"empty": _empty(), "script": _script(caller), "decision": lambda: _decide(caller)}
    taken: dict[str, list[Figures]] = {name: [] for name in measured}
    for _round in range(rounds):
        for name, call in measured.items():
            taken[name].append(Figures.of([_sample(call, calls)]))
    result: dict[str, Any] = {name: asdict(Figures.median(figures)) for name, figures in taken.items()}
    p50 = {name: result[name]["p50_ms"] for name in measured}
    return result | {
        "windows": len(_decide(caller).windows),
        "ratio_to_empty": round(p50["decision"] / p50["empty"], 2),
        "ratio_to_script": round(p50["decision"] / p50["script"], 2),
    }


def _sample(call: Measured, calls: int) -> Sample:
    sample = Sample(0.0)
    begun = time.perf_counter()
    for _ in range(calls):
        before = time.perf_counter()
        call()
        sample.latencies.append(time.perf_counter() - before)
    sample.seconds = time.perf_counter() - begun
    return sample


def _decide(caller: Caller) -> rates.Decision:
    decision = rates.decide(rates.subjects_of(caller, RouteClass.INFERENCE))
    if not decision.admitted:
        raise StartProblemError("The limits of the measurement were reached.")
    return decision


def _empty() -> Measured:
    client = redis_client()
    sha = cast("str", client.script_load(EMPTY))
    return lambda: client.evalsha(sha, 0)


def _script(caller: Caller) -> Measured:
    _decide(caller)  # so that Redis knows the script
    limits, client = rates.limits_of(rates.subjects_of(caller, RouteClass.INFERENCE)), redis_client()
    arguments = rates.question(limits, rates.milliseconds())
    return lambda: client.evalsha(rates.SCRIPT_SHA, *arguments)
