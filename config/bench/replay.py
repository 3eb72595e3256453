"""The road's bare SQL, as pgbench would run it: plain psycopg, threads, nothing of Django."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import psycopg

from accounts.ids import uuid7
from config.bench.figures import Sample


@dataclass(slots=True)
class Transaction:
    """Statements with their values; one transaction if `is_atomic`, else each its own."""

    statements: list[tuple[str, Any]] = field(default_factory=list)
    is_atomic: bool = False


@dataclass(frozen=True, slots=True)
class Road:
    """What one call does. Its `fresh` ids must differ from call to call, and the ids of its caller may."""

    transactions: list[Transaction]
    fresh: tuple[UUID, ...]
    user_id: UUID
    api_key_id: UUID


@dataclass(frozen=True, slots=True)
class Job:
    """Calls on `threads` connections for `seconds`; connection i is for `callers[i]` (user, API key)."""

    conninfo: str
    options: str
    road: Road
    callers: tuple[tuple[UUID, UUID], ...]
    seconds: float


def run(job: Job) -> Sample:
    """Run the road's statements until the time is over."""
    sample = Sample(0.0)
    gate = threading.Barrier(len(job.callers) + 1)
    threads = [threading.Thread(target=_work, args=(job, caller, sample, gate)) for caller in job.callers]
    for thread in threads:
        thread.start()
    with contextlib.suppress(threading.BrokenBarrierError):
        gate.wait()
    begun = time.perf_counter()
    for thread in threads:
        thread.join()
    sample.seconds = time.perf_counter() - begun
    return sample


def _work(job: Job, caller: tuple[UUID, UUID], sample: Sample, gate: threading.Barrier) -> None:
    try:
        with psycopg.connect(job.conninfo, options=job.options, prepare_threshold=2) as connection:
            run_once(connection, job.road, caller)
            gate.wait()
            until = time.perf_counter() + job.seconds
            while (begun := time.perf_counter()) < until:
                run_once(connection, job.road, caller)
                sample.latencies.append(time.perf_counter() - begun)
    except threading.BrokenBarrierError:
        pass  # another thread has said why
    except psycopg.Error as error:
        gate.abort()
        sample.errors.append(f"bare SQL: {str(error).strip().splitlines()[0]}")


def run_once(connection: psycopg.Connection[Any], road: Road, caller: tuple[UUID, UUID]) -> None:
    """One call's statements, with ids of its own."""
    swap: dict[Any, Any] = {old: uuid7() for old in road.fresh}
    swap |= {road.user_id: caller[0], road.api_key_id: caller[1]}
    for transaction in road.transactions:
        if connection.autocommit == transaction.is_atomic:
            connection.autocommit = not transaction.is_atomic
        for statement, values in transaction.statements:
            connection.execute(statement, _swapped(values, swap))
        if transaction.is_atomic:
            connection.commit()


def _swapped(values: Any, swap: dict[Any, Any]) -> Any:
    if isinstance(values, dict):
        return {name: _swap(value, swap) for name, value in values.items()}
    return [_swap(value, swap) for value in values or ()]


def _swap(value: Any, swap: dict[Any, Any]) -> Any:
    return swap.get(value, value) if isinstance(value, UUID) else value
