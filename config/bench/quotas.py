"""`manage.py bench quotas`: what it costs to hold and settle, beside the SQL of it alone."""

from __future__ import annotations

import random
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import psycopg
from django.conf import settings
from django.db import DatabaseError, connection, connections
from django.db.backends.postgresql.base import DatabaseWrapper

from accounts.exceptions import DomainError
from config.bench import holds, machine
from config.bench.figures import Figures, Sample
from config.bench.holds import BareSql, Holder, LeastSql, Mainstay, Way
from config.bench.installation import Installation, conninfo
from config.embedded.process import StartProblemError
from quotas import services
from quotas.exceptions import QuotaExceeded

WAYS = ("least_sql", "bare_sql", "mainstay")


@dataclass(frozen=True, slots=True)
class Pace:
    """How long is measured: for one user and for `users`, by each number of `threads`.

    Each way has a turn of `seconds` in each of `rounds`. At the end as many threads as there ever are ask for half as
    much again as the `limit` of one user.
    """

    rounds: int
    seconds: float
    threads: tuple[int, ...]
    users: int
    limit: int


FULL = Pace(rounds=40, seconds=0.1, threads=(1, 8, 32), users=10_000, limit=1000)
QUICK = Pace(rounds=6, seconds=0.1, threads=(1, 8, 32), users=10_000, limit=200)


def run(pace: Pace, say: Callable[[str], None]) -> dict[str, Any]:
    """Start the stores, measure, stop them. Raises `StartProblemError`, `StopRequestedError`."""
    load_before = machine.load()
    installation = Installation(say)
    installation.supervisor.catch_signals()
    try:
        installation.start()
        return measure(pace, say) | machine.describe() | {"load_before": load_before}
    finally:
        installation.stop()


def measure(pace: Pace, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure, and read the books after each number of threads; `StartProblemError` if they do not balance."""
    # At least one for each thread, as in production, where a process has far fewer threads than connections.
    database = connections["default"]
    assert isinstance(database, DatabaseWrapper)
    database.pool.resize(1, max(database.pool.max_size, max(pace.threads) + 1))
    deadlocks = holds.count_deadlocks()
    say(f"{pace.users:,} users are made.")
    one, many = holds.make_holders(1), holds.make_holders(pace.users)
    holds.tidy()
    captured = holds.capture(one[0])
    calls, result = 1, dict[str, Any]()
    for name, holders in (("one_user", one), ("many_users", many)):
        result[name] = {}
        for threads in pace.threads:
            say(f"{len(holders):,} {'user' if holders is one else 'users'}, {threads} at once.")
            crowd = Crowd(holders, threads, pace, captured)
            crowd.run()
            calls += crowd.calls
            _check_books(crowd.errors, calls)
            result[name][f"t{threads}"] = crowd.result()
    say(f"{max(pace.threads)} at once for more than there is.")
    calls += check_limit(pace)
    _check_books([], calls)
    if (deadlocks := holds.count_deadlocks() - deadlocks) > 0:
        raise StartProblemError(f"There were {deadlocks} deadlocks.")
    return result | {"users": pace.users, "limit": pace.limit, "calls": calls, "errors": 0, "deadlocks": 0}


@dataclass
class Crowd:
    """Threads that all go the same way at the same time, the ways in turn, so that what disturbs one disturbs all."""

    holders: Sequence[Holder]
    threads: int
    pace: Pace
    captured: Sequence[tuple[str, dict[str, Any]]]
    errors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gate = threading.Barrier(self.threads)
        # The first round is there to warm up.
        self.samples: dict[str, list[list[Sample]]] = {way: [[] for _ in range(self.pace.rounds + 1)] for way in WAYS}

    def run(self) -> None:
        with ThreadPoolExecutor(self.threads) as threads:
            list(threads.map(self._work, range(self.threads)))

    def _work(self, number: int) -> None:
        options = settings.DATABASES["default"]["OPTIONS"]["options"]
        chance = random.Random(number)  # noqa: S311 - nothing secret
        try:
            with psycopg.connect(conninfo(), options=options, autocommit=True) as bare, bare.cursor() as cursor:
                ways: dict[str, Way] = {
                    "least_sql": LeastSql(cursor),
                    "bare_sql": BareSql(cursor, self.captured),
                    "mainstay": Mainstay(),
                }
                for turn in range(self.pace.rounds + 1):
                    self._round(turn, ways, chance)
        except threading.BrokenBarrierError:
            pass  # another thread has said why
        except (psycopg.Error, DatabaseError, DomainError) as error:
            self.gate.abort()
            self.errors.append(f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}")
        finally:
            connection.close()

    def _round(self, turn: int, ways: dict[str, Way], chance: random.Random) -> None:
        first = turn % len(WAYS)
        for way in WAYS[first:] + WAYS[:first]:
            self.gate.wait()
            self.samples[way][turn].append(self._batch(ways[way], chance))

    def _batch(self, way: Way, chance: random.Random) -> Sample:
        sample = Sample(0.0)
        begun = now = time.perf_counter()
        until = begun + self.pace.seconds
        while now < until:
            holder = chance.choice(self.holders)
            called = time.perf_counter()
            way.hold_and_settle(holder)
            now = time.perf_counter()
            sample.latencies.append(now - called)
        sample.seconds = now - begun
        return sample

    @property
    def calls(self) -> int:
        """What all ways together did, to warm up too."""
        return sum(len(one.latencies) for rounds in self.samples.values() for samples in rounds for one in samples)

    def result(self) -> dict[str, Any]:
        """The figures of each way, and how many times as long as its SQL Mainstay takes: quartiles of the rounds."""
        medians = {way: [Figures.of(samples).p50_ms for samples in rounds[1:]] for way, rounds in self.samples.items()}
        ratios = [ours / bare for ours, bare in zip(medians["mainstay"], medians["bare_sql"], strict=True)]
        low, middle, high = (round(ratio, 2) for ratio in statistics.quantiles(ratios, n=4, method="inclusive"))
        figures = {way: asdict(Figures.of(_joined(rounds[1:]))) for way, rounds in self.samples.items()}
        return figures | {"ratio": middle, "ratio_low": low, "ratio_high": high}


def _joined(rounds: Sequence[Sequence[Sample]]) -> list[Sample]:
    """The samples of all rounds as one for each thread."""
    return [
        Sample(sum(one.seconds for one in ones), [latency for one in ones for latency in one.latencies])
        for ones in zip(*rounds, strict=True)
    ]


def check_limit(pace: Pace) -> int:
    """Ask for more than one user's limit, all threads at once; how many were admitted, which is the limit exactly."""
    (holder,) = holds.make_holders(1, requests=pace.limit)
    threads = max(pace.threads)
    tries = -(-pace.limit * 3 // 2 // threads)

    def ask(_number: int) -> int:
        try:
            return sum(_is_admitted(holder) for _ in range(tries))
        finally:
            connection.close()

    with ThreadPoolExecutor(threads) as crowd:
        admitted = sum(crowd.map(ask, range(threads)))
    if admitted != pace.limit:
        raise StartProblemError(f"A limit of {pace.limit} admitted {admitted} of {threads * tries} calls.")
    return admitted


def _is_admitted(holder: Holder) -> bool:
    try:
        hold = services.reserve(user_id=holder.user_id, amounts=holds.ASKED, seconds=holds.SECONDS)
    except QuotaExceeded:
        return False
    services.settle(reservation_id=hold.id, used=holds.USED)
    return True


def _check_books(errors: Sequence[str], calls: int) -> None:
    if errors:
        raise StartProblemError(f"{len(errors)} threads failed, the first one thus: {errors[0]}")
    books = holds.read_books()
    if books != holds.Books(settled=calls, unsettled=0, wrong_quotas=0):
        raise StartProblemError(f"The books do not balance: {calls} calls were made, but {books}.")
