"""`manage.py bench metered`: what the metered road costs, beside its upstream alone and its SQL alone."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

from django.conf import settings

from config.bench import load, machine, replay, rows
from config.bench.figures import Figures, Sample, crew
from config.bench.installation import Installation, conninfo
from config.bench.rows import Customer
from config.bench.servers import Servers
from config.bench.statements import capture
from config.bench.wire import Traffic, Wire
from config.embedded.process import StartProblemError

CONNECTIONS = 32
STREAMS = 300
COUNTED_CALLS = 6
PROCESSES = 2  # that run bare SQL; the load generator is one of them


@dataclass(frozen=True, slots=True)
class Pace:
    """How long is measured: each road `rounds` times for `c1` and `c32` seconds, the rest for `rest` seconds each.

    `held_ms` pass between the chunks of the streams that are held open.
    """

    rounds: int
    warm: float
    c1: float
    c32: float
    rest: float
    held_ms: int


FULL = Pace(rounds=3, warm=2.0, c1=1.5, c32=3.0, rest=2.0, held_ms=100)
QUICK = Pace(rounds=1, warm=0.5, c1=0.6, c32=0.7, rest=0.3, held_ms=30)


@dataclass(frozen=True, slots=True)
class Options:
    """`web` is another web server's command, to compare; {port} and {workers} are filled in."""

    quick: bool = False
    workers: int = 2
    web: str | None = None

    @property
    def pace(self) -> Pace:
        return QUICK if self.quick else FULL


def run(options: Options, say: Callable[[str], None]) -> dict[str, Any]:
    """Start everything, measure, stop everything. Raises `StartProblemError`, `StopRequestedError`."""
    load_before = machine.load()
    installation = Installation(say)
    installation.supervisor.catch_signals()
    try:
        with crew(PROCESSES) as people:
            people.submit(load.is_complete, bytearray())  # so that they start while the stores do
            installation.start()
            return Metered(options, say, installation, people).run() | {"load_before": load_before}
    finally:
        installation.stop()


@dataclass
class Metered:
    """The measurement itself."""

    options: Options
    say: Callable[[str], None]
    installation: Installation
    people: ProcessPoolExecutor
    calls: int = 0
    errors: list[str] = field(default_factory=list)

    def run(self) -> dict[str, Any]:
        self.say("The stub and the web servers start.")
        self.held_model = f"paced-{self.options.pace.held_ms}"
        self.customers = rows.make_customers(CONNECTIONS)
        self.servers = Servers(self.installation, self.options.workers, self.options.web)
        self.servers.start_stub()
        rows.make_models(self.servers.stub_url, "instant", self.held_model)
        counts = self.count()
        self.road = capture(self.customers[0], "instant")
        self.calls += 2
        result = self.measure() | counts
        return result | self.check_books() | machine.describe(self.servers.name)

    # What one call sends ---------------------------------------------------------------------------------------

    def count(self) -> dict[str, Any]:
        """Start the web server, and one more with a single worker behind a relay that counts."""
        database = settings.DATABASES["default"]
        wire = Wire(self.servers.socket_dir, host=database["HOST"], port=int(database["PORT"] or 5432))
        with wire:
            self.servers.start_web(count_at=self.servers.socket_dir)
            self.say("The statements of single calls are counted.")
            plain = [self._count_one(wire, stream=False) for _ in range(COUNTED_CALLS)][2:]
            streams = [self._count_one(wire, stream=True) for _ in range(COUNTED_CALLS)][2:]
            self.servers.stop_counted()
        # The road's own statements name the table of users, too, to lock the caller's row.
        of_credentials = ("accounts_apikey", "accounts_session")
        authentication = max(
            sum(any(table in text for table in of_credentials) for text in one.statements) for one in plain + streams
        )
        return {
            "statements_per_call": statistics.median(len(one.statements) for one in plain),
            "statements_per_call_mean": round(statistics.fmean(len(one.statements) for one in plain), 2),
            "statements_per_stream": statistics.median(len(one.statements) for one in streams),
            "round_trips_per_call": statistics.median(one.round_trips for one in plain),
            "commits_per_call": statistics.median(one.commits for one in plain),
            "commits_per_stream": statistics.median(one.commits for one in streams),
            "authentication_statements_per_call": authentication,
        }

    def _count_one(self, wire: Wire, *, stream: bool) -> Traffic:
        wire.take()
        self._mainstay(1, None, port=self.servers.counted_port, stream=stream)
        return wire.take()

    # Time ------------------------------------------------------------------------------------------------------

    def measure(self) -> dict[str, Any]:
        pace = self.options.pace
        self._mainstay(CONNECTIONS, pace.warm)
        roads: dict[str, Callable[[int, float], list[Sample]]] = {
            "direct": self._direct,
            "bare_sql": self._bare,
            "mainstay": self._mainstay,
        }
        taken: dict[tuple[str, str], list[Figures]] = {}
        for number in range(pace.rounds):
            self.say(f"Round {number + 1} of {pace.rounds}: direct, bare SQL, Mainstay.")
            for name, connections, seconds in (("c1", 1, pace.c1), ("c32", CONNECTIONS, pace.c32)):
                for road, call in roads.items():
                    taken.setdefault((road, name), []).append(Figures.of(call(connections, seconds)))
        result: dict[str, Any] = {road: {} for road in roads}
        for (road, name), figures in taken.items():
            result[road][name] = asdict(Figures.median(figures))
        result["added_p50_ms"] = {
            name: round(result["mainstay"][name]["p50_ms"] - result["direct"][name]["p50_ms"], 3)
            for name in ("c1", "c32")
        }
        return result | self._one_customer() | self._streams() | self._hold() | self.servers.memory()

    def _one_customer(self) -> dict[str, Any]:
        """All connections for one customer, whose quota rows they then wait for."""
        self.say("All connections for one user.")
        samples = self._mainstay(CONNECTIONS, self.options.pace.rest, customers=self.customers[:1])
        return {"mainstay_one_customer": {"c32": asdict(Figures.of(samples))}}

    def _streams(self) -> dict[str, Any]:
        self.say("Streams of 50 chunks: direct, Mainstay.")
        seconds = self.options.pace.rest
        found: dict[str, dict[str, Any]] = {"direct": {}, "mainstay": {}}
        for name, connections in (("c1", 1), ("c32", CONNECTIONS)):
            found["direct"][name] = asdict(Figures.of(self._direct(connections, seconds, stream=True)))
            found["mainstay"][name] = asdict(Figures.of(self._mainstay(connections, seconds, stream=True)))
        return {"streams": found}

    def _hold(self) -> dict[str, Any]:
        self.say(f"{STREAMS} streams at once.")
        (sample,) = self._mainstay(STREAMS, None, model=self.held_model, stream=True)
        return {"streams_held": min(len(sample.latencies), sample.peak), "stream_errors": len(sample.errors)}

    def _direct(self, connections: int, seconds: float, *, stream: bool = False) -> list[Sample]:
        return self._load(load.Job(self.servers.stub_port, ("none",), connections, seconds, stream=stream))

    def _mainstay(
        self,
        connections: int,
        seconds: float | None,
        *,
        port: int | None = None,
        model: str = "instant",
        stream: bool = False,
        customers: list[Customer] | None = None,
    ) -> list[Sample]:
        keys = tuple(customer.key for customer in customers or self.customers)
        samples = self._load(load.Job(port or self.servers.port, keys, connections, seconds, model, stream))
        self.calls += sum(len(sample.latencies) for sample in samples)
        return samples

    def _load(self, job: load.Job) -> list[Sample]:
        sample = self.people.submit(load.run, job).result()
        self.errors += sample.errors
        return [sample]

    def _bare(self, connections: int, seconds: float) -> list[Sample]:
        callers = [(customer.user_id, customer.api_key_id) for customer in self.customers[:connections]]
        options = settings.DATABASES["default"]["OPTIONS"]["options"]
        shares = [tuple(callers[number::PROCESSES]) for number in range(min(PROCESSES, connections))]
        jobs = [replay.Job(conninfo(), options, self.road, share, seconds) for share in shares]
        samples = list(self.people.map(replay.run, jobs))
        self.errors += [error for sample in samples for error in sample.errors]
        self.calls += sum(len(sample.latencies) for sample in samples) + connections
        return samples

    # The books -------------------------------------------------------------------------------------------------

    def check_books(self) -> dict[str, Any]:
        """Every call must be recorded and charged once, and nothing be left open."""
        if self.errors:
            raise StartProblemError(f"{len(self.errors)} calls failed, the first one thus: {self.errors[0]}")
        books = rows.read_books()
        if books.unsettled or not books.recorded == books.charged == self.calls:
            raise StartProblemError(f"The books do not balance: {self.calls} calls were answered, but {books}.")
        return {"calls": self.calls, "unsettled": books.unsettled, "errors": 0}
