"""The pieces of `manage.py bench`; the whole of it is a drill."""

import json
import math
import os
import signal
import sys
import time
from importlib import import_module

import psutil
import psycopg
import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db import connection

from config.bench import installation, load, metered, replay, report, rows, statements
from config.bench.figures import Figures, Sample, crew
from config.bench.servers import Servers, counted_database, free_port
from config.bench.wire import Session, Wire
from config.embedded.paths import DATA_DIR
from config.embedded.process import StartProblemError
from config.embedded.supervisor import StopRequestedError
from config.tests.benches import bench
from inference.models import Request
from inference.stub import StubServer
from quotas.models import Quota

seed_plans = import_module("quotas.migrations.0002_seed_plans").seed

KEYS = ("msk_one", "msk_two")


# Figures -----------------------------------------------------------------------------------------------------------


def test_figures_are_nearest_rank_percentiles():
    figures = Figures.of([Sample(2.0, [0.001 * n for n in range(1, 51)]), Sample(2.0, [0.1] * 50)])
    assert figures == Figures(rps=50.0, p50_ms=50.0, p99_ms=100.0)


def test_figures_of_nothing():
    figures = Figures.of([Sample(1.0)])
    assert figures.rps == 0
    assert math.isnan(figures.p50_ms)


def test_the_median_is_taken_of_each_number():
    rounds = [Figures(100, 1, 9), Figures(300, 3, 7), Figures(200, 2, 8)]
    assert Figures.median(rounds) == Figures(200, 2, 8)


def test_the_crew_works_elsewhere():
    with crew(1) as people:
        assert people.submit(os.getpid).result() != os.getpid()


# Load --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_load_runs_for_its_time(stream):
    with StubServer() as stub:
        sample = load.run(load.Job(stub.port, KEYS, 3, 0.2, stream=stream))
    assert sample.errors == []
    assert len(sample.latencies) == len(stub.requests) > 3
    assert 0.2 <= sample.seconds < 2
    assert {received.headers["authorization"] for received in stub.requests} == {f"Bearer {key}" for key in KEYS}


def test_streams_are_held_open_at_once():
    with StubServer() as stub:
        sample = load.run(load.Job(stub.port, KEYS, 20, None, "paced-3", stream=True))
    assert sample.peak == len(sample.latencies) == 20


@pytest.mark.parametrize(
    ("model", "stream", "error"),
    [
        ("error-500", False, "HTTP/1.1 500"),
        ("garbage", False, "no choices"),
        ("die", False, "closed before"),
        ("early-end", True, "3 chunks instead of 50"),
        ("tools", True, "0 chunks instead of 50"),
    ],
)
def test_what_is_wrong_is_said(model, stream, error):
    with StubServer() as stub:
        sample = load.run(load.Job(stub.port, KEYS, 1, None, model, stream))
    assert sample.latencies == []
    assert error in sample.errors[0]


def test_a_stream_without_its_end_is_wrong():
    job = load.Job(1, KEYS, 1, None, stream=True, chunks=0)
    assert load.what_is_wrong(bytearray(b"HTTP/1.1 200 OK\r\n\r\n"), job) == "a stream ended without [DONE]"


def test_an_answer_that_never_comes(monkeypatch):
    monkeypatch.setattr(load, "PATIENCE_SECONDS", 0.1)
    with StubServer() as stub:
        sample = load.run(load.Job(stub.port, KEYS, 2, None, "hang"))
    assert sample.errors == ["no answer in 0.1 s"] * 2


# What goes over the wire -------------------------------------------------------------------------------------------


def frame(kind: bytes, body: bytes) -> bytes:
    return kind + (len(body) + 4).to_bytes(4) + body


@pytest.mark.django_db(transaction=True)
def test_the_wire_counts_statements_round_trips_and_commits(tmp_path):
    database = connection.settings_dict
    with (
        Wire(tmp_path / "s", host=database["HOST"], port=int(database["PORT"])) as wire,
        psycopg.connect(host=str(tmp_path / "s"), user=database["USER"], dbname=database["NAME"]) as client,
    ):
        wire.take()
        client.execute("SELECT %s::int", [1])
        client.execute("SELECT 2")
        client.commit()
        traffic = wire.take()
        assert [text.split()[0] for text in traffic.statements] == ["BEGIN", "SELECT", "SELECT", "COMMIT"]
        assert (traffic.round_trips, traffic.commits) == (4, 1)

        client.execute("SELECT 2")
        client.rollback()
        assert wire.take().commits == 0

        client.autocommit = True
        for _ in range(2):
            client.execute("SELECT 4", prepare=True)
        traffic = wire.take()
        assert traffic.statements == ["SELECT 4"] * 2
        assert (traffic.round_trips, traffic.commits) == (3, 2)  # the first one was prepared, which is one more

        with pytest.raises(psycopg.errors.DivisionByZero):
            client.execute("SELECT 1/0")
        client.execute("SELECT 3")
        traffic = wire.take()
        assert (len(traffic.statements), traffic.round_trips, traffic.commits) == (2, 2, 1)


def test_the_wire_reads_messages_however_they_are_cut(tmp_path):
    wire = Wire(tmp_path, host="unused", port=1)
    session = Session(wire)
    sent = (8).to_bytes(4) + (196608).to_bytes(4) + frame(b"P", b"s1\0SELECT 1\0\0\0")
    sent += frame(b"B", b"\0s1\0\0\0\0\0\0\0") + frame(b"E", b"\0\0\0\0\0") + frame(b"Q", b"COMMIT\0")
    for at in range(len(sent)):
        session.sent(sent[at : at + 1])
    answered = frame(b"C", b"COMMIT\0") + frame(b"Z", b"I") + frame(b"Z", b"T")
    for at in range(len(answered)):
        session.answered(answered[at : at + 1])
    traffic = wire.take()
    assert traffic.statements == ["SELECT 1", "COMMIT"]
    assert (traffic.round_trips, traffic.commits) == (2, 1)
    wire._loop.close()


def test_the_wire_cannot_read_what_is_encrypted(tmp_path):
    wire = Wire(tmp_path, host="unused", port=1)
    with pytest.raises(ConnectionError):
        Session(wire).sent((8).to_bytes(4) + (80877103).to_bytes(4))
    wire._loop.close()


# The road's own SQL ------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_the_statements_are_the_roads_and_balance():
    seed_plans(apps, None)
    customers = rows.make_customers(2)
    with StubServer() as stub:
        rows.make_models(stub.base_url, "instant")
        road = statements.capture(customers[0], "instant")
    assert len(road.transactions) == 2
    text = " ".join(statement for transaction in road.transactions for statement, _ in transaction.statements)
    assert "quotas_reservation" in text
    assert "inference_request" in text
    assert "accounts_apikey" not in text

    callers = tuple((customer.user_id, customer.api_key_id) for customer in customers)
    conninfo = installation.conninfo(connection.settings_dict["NAME"])
    sample = replay.run(replay.Job(conninfo, "-c lock_timeout=10s", road, callers, 0.1))
    assert sample.errors == []
    calls = 2 + 2 + len(sample.latencies)
    assert rows.read_books() == rows.Books(recorded=calls, charged=calls, unsettled=0)
    assert set(Request.objects.values_list("user_id", flat=True)) == {customer.user_id for customer in customers}


@pytest.mark.django_db(transaction=True)
def test_bare_sql_that_fails_says_so():
    road = replay.Road([replay.Transaction([("SELECT 1/0", None)], is_atomic=True)], (), KEYS[0], KEYS[1])
    conninfo = installation.conninfo(connection.settings_dict["NAME"])
    sample = replay.run(replay.Job(conninfo, "", road, (KEYS, KEYS), 0.1))
    assert "division by zero" in sample.errors[0]
    assert sample.latencies == []


@pytest.mark.django_db
def test_nobody_reaches_the_limits_of_a_measurement():
    (customer,) = rows.make_customers(1)
    quotas = Quota.objects.filter(user_id=customer.user_id)
    assert {"requests", "tokens"} <= {quota.unit for quota in quotas}
    assert {quota.limit for quota in quotas} == {rows.NO_LIMIT}
    Quota.objects.filter(pk=quotas[0].pk).update(held=1)
    assert rows.read_books().unsettled == 1


# An installation of its own ----------------------------------------------------------------------------------------


def test_the_environment_has_its_own_data_and_secrets():
    inside = installation.environment({"PATH": "/bin", "SECRET_KEY": "ours", "DJANGO_DEBUG": "true"})
    assert inside["MAINSTAY_DATA_DIR"] == str(DATA_DIR / "bench")
    assert inside["PATH"] == "/bin"
    assert inside["DJANGO_DEBUG"] == "false"
    assert inside["SECRET_KEY"] != "ours"
    assert "POSTGRES_DB" not in inside


@pytest.mark.parametrize(
    ("outside", "name", "value"),
    [
        ({"DATABASE_URL": "postgres://u:p@h:5/shop?x=1"}, "DATABASE_URL", "postgres://u:p@h:5/shop_bench?x=1"),
        ({"POSTGRES_HOST": "h"}, "POSTGRES_DB", "mainstay_bench"),
        ({"POSTGRES_HOST": "h", "POSTGRES_DB": "shop"}, "POSTGRES_DB", "shop_bench"),
    ],
)
def test_on_another_server_it_has_a_database_of_its_own(outside, name, value):
    assert installation.environment(outside)[name] == value


def test_the_database_is_made_and_dropped(monkeypatch, settings):
    monkeypatch.setitem(settings.DATABASES["default"], "NAME", "mainstay_bench")
    ours = installation.Installation(print)
    ours._make_database()
    with psycopg.connect(installation.conninfo()) as client:
        assert client.execute("SELECT current_database()").fetchone() == ("mainstay_bench",)
    ours._on_server("DROP DATABASE {}")
    with pytest.raises(StartProblemError, match="mainstay_bench could not be made"):
        ours._on_server("DROP DATABASE {}")


def test_no_other_database_is_ever_touched(monkeypatch, settings):
    monkeypatch.setitem(settings.DATABASES["default"], "NAME", "mainstay")
    with pytest.raises(AssertionError):
        installation.Installation(print)._on_server("DROP DATABASE {}")


def test_the_web_server_is_started_as_up_does_or_as_asked(settings):
    ours = Servers(None, 2, None)
    assert ours.name == "uvicorn"
    assert "config.serve" in ours._web(8123, 2).command
    other = Servers(None, 3, "some.server --port {port} -w {workers}")
    assert other.name == other.command
    assert other._web(8123, 3).command == [sys.executable, "-m", "some.server", "--port", "8123", "-w", "3"]
    counted = counted_database(other.socket_dir)
    assert counted["POSTGRES_HOST"] == str(other.socket_dir)
    assert counted["POSTGRES_DB"] == settings.DATABASES["default"]["NAME"]
    assert free_port() != free_port()


# The command -------------------------------------------------------------------------------------------------------

FIGURES = {"rps": 1234.5, "p50_ms": 1.25, "p99_ms": 9.75}
BOTH = {"c1": FIGURES, "c32": FIGURES}
RESULT = {
    "direct": {"c1": FIGURES | {"p50_ms": 0.25}, "c32": FIGURES},
    "bare_sql": BOTH,
    "mainstay": BOTH,
    "mainstay_one_customer": {"c32": FIGURES},
    "streams": {"direct": BOTH, "mainstay": BOTH},
    "statements_per_call": 8.0,
    "authentication_statements_per_call": 0,
    "round_trips_per_call": 8.0,
    "commits_per_call": 2.0,
    "streams_held": 300,
    "stream_errors": 0,
    "rss_mb_each": [101.5, 99.0],
    "calls": 4321,
    "unsettled": 0,
    "server": "granian",
    "machine": {"cores": 2, "processor": "Abacus"},
    "versions": {"python": "3.11.7", "granian": "2.8.7"},
    "load_before": 0.5,
}


def test_the_table():
    lines = report.metered(RESULT).splitlines()
    (ours,) = (line for line in lines if line.startswith("through Mainstay") and "1.00" in line)
    assert ours.split()[2:] == ["1,234", "1,234", "1.25", "1.25", "9.75", "9.75", "1.00", "0.00"]
    assert any("8, 0 of them for authentication" in line for line in lines)
    assert any("101.5 MB, 99 MB" in line for line in lines)
    assert any("4,321, 0 unsettled" in line for line in lines)


@pytest.mark.usefixtures("inside")
@pytest.mark.parametrize("as_json", [True, False])
def test_the_result_goes_to_standard_output(monkeypatch, capsys, as_json):
    seen = []
    monkeypatch.setattr(metered, "run", lambda options, say: seen.append(options) or say("Measuring.") or RESULT)
    call_command("bench", "metered", "--quick", "--workers", "3", *(["--json"] if as_json else []))
    out, err = capsys.readouterr()
    assert (json.loads(out) == RESULT) if as_json else ("through Mainstay" in out)
    assert "Measuring." in err
    assert seen == [metered.Options(quick=True, workers=3)]
    assert seen[0].pace == metered.QUICK
    assert metered.Options().pace == metered.FULL


@pytest.mark.usefixtures("inside")
@pytest.mark.parametrize(
    ("problem", "sentence"),
    [
        (StartProblemError("The books do not balance."), "The books do not balance."),
        (StopRequestedError(), "Stopped."),
        (OSError(28, "No space left on device"), "The disk is full"),
    ],
)
def test_a_failure_is_one_sentence(monkeypatch, problem, sentence):
    def fail(options, say):
        raise problem

    monkeypatch.setattr(metered, "run", fail)
    with pytest.raises(SystemExit, match=sentence):
        call_command("bench", "metered")


def test_it_runs_again_in_its_own_environment(monkeypatch):
    called = []

    def execve(*arguments):
        called.extend(arguments)
        raise SystemExit

    monkeypatch.delenv(installation.INSIDE, raising=False)
    monkeypatch.setattr(os, "execve", execve)
    with pytest.raises(SystemExit):
        call_command("bench", "metered")
    program, arguments, environment = called
    assert program == sys.executable
    assert arguments[1].endswith("manage.py")
    assert installation.INSIDE in environment


def test_it_must_be_said_what_to_measure():
    with pytest.raises(CommandError):
        call_command("bench")


@pytest.mark.drill
def test_a_whole_measurement(tmp_path):
    run = bench(tmp_path, "--quick", "--json")
    out, err = run.communicate(timeout=120)
    assert run.returncode == 0, err
    result = json.loads(out)
    for road in ("direct", "bare_sql", "mainstay"):
        for connections in ("c1", "c32"):
            assert result[road][connections].keys() == {"rps", "p50_ms", "p99_ms"}
            assert result[road][connections]["rps"] > 0
    assert result["statements_per_call"] <= 8
    assert result["commits_per_call"] <= 2
    assert result["authentication_statements_per_call"] == 0
    assert result["streams_held"] == 300
    assert result["unsettled"] == 0
    assert 20 < result["rss_mb"] < 500
    assert list(tmp_path.iterdir()) == []


@pytest.mark.drill
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_measurement_is_stopped_by_ctrl_c(tmp_path, number):
    run = bench(tmp_path)
    while "Round" not in run.stderr.readline():
        assert run.poll() is None
    family = psutil.Process(run.pid).children(recursive=True)
    begun = time.monotonic()
    run.send_signal(number)
    assert run.wait(30) == 1
    assert "Stopped." in run.stderr.read()
    assert time.monotonic() - begun < 20
    assert psutil.wait_procs(family, timeout=5)[1] == []
    assert list(tmp_path.iterdir()) == []
    run.stdout.close()
    run.stderr.close()
