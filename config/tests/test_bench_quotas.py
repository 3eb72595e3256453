"""The pieces of `manage.py bench quotas`; the whole of it is a drill."""

import json

import psycopg
import pytest
from django.core.management import call_command
from django.db import connection

from config.bench import holds, installation, quotas, report
from config.embedded.process import StartProblemError
from config.tests.benches import bench
from quotas.models import Quota, Reservation


@pytest.mark.django_db(transaction=True)
def test_holding_and_settling_is_measured_and_balances():
    pace = quotas.Pace(rounds=2, seconds=0.02, threads=(1, 3), users=20, limit=7)
    result = quotas.measure(pace, print)
    for users in ("one_user", "many_users"):
        assert result[users].keys() == {"t1", "t3"}
        for figures in result[users].values():
            assert figures.keys() == {*quotas.WAYS, "ratio", "ratio_low", "ratio_high"}
            assert min(figures[way]["rps"] for way in quotas.WAYS) > 0
            assert 0 < figures["ratio_low"] <= figures["ratio"] <= figures["ratio_high"]
    assert result["calls"] == Reservation.objects.filter(status="confirmed").count()
    assert Quota.objects.get(limit=7).current_usage == 7
    table = report.quotas(result | {"machine": {"cores": 2, "processor": "Abacus"}, "versions": {"python": "3.11.7"}})
    assert sum(line.startswith("through Mainstay") for line in table.splitlines()) == 2


@pytest.mark.django_db(transaction=True)
def test_each_way_holds_and_settles_by_itself():
    (holder,) = holds.make_holders(1)
    captured = holds.capture(holder)
    with psycopg.connect(installation.conninfo(connection.settings_dict["NAME"]), autocommit=True) as client:
        for way in (holds.BareSql(client.cursor(), captured), holds.LeastSql(client.cursor()), holds.Mainstay()):
            way.hold_and_settle(holder)
    assert holds.read_books() == holds.Books(settled=4, unsettled=0, wrong_quotas=0)
    tokens, requests = Quota.objects.get(pk=holder.tokens_id), Quota.objects.get(unit="requests")
    assert (tokens.current_usage, requests.current_usage) == (4 * holds.USED[holds.TOKENS], 3)
    by_statements = Reservation.objects.exclude(used=None).values_list("used", flat=True)
    assert list(by_statements) == [{"llm.requests": 1, "llm.tokens": 80}] * 3


@pytest.mark.django_db
@pytest.mark.parametrize("change", [{"held": 1}, {"current_usage": 1}])
def test_books_that_do_not_balance(change):
    (holder,) = holds.make_holders(1)
    holds.capture(holder)
    Quota.objects.filter(pk=holder.tokens_id).update(**change)
    assert holds.read_books() == holds.Books(settled=1, unsettled=0, wrong_quotas=1)
    with pytest.raises(StartProblemError, match="do not balance"):
        quotas._check_books([], 1)


@pytest.mark.django_db(transaction=True)
def test_a_thread_that_fails_stops_the_others():
    holders = holds.make_holders(1)
    pace = quotas.Pace(rounds=50, seconds=0.01, threads=(2,), users=1, limit=1)
    crowd = quotas.Crowd(holders, 2, pace, [("SELECT 1/0", {})])
    crowd.run()
    with pytest.raises(StartProblemError, match="DivisionByZero: division by zero"):
        quotas._check_books(crowd.errors, crowd.calls)


@pytest.mark.django_db(transaction=True)
def test_a_limit_that_admits_anything_else_than_itself(monkeypatch):
    monkeypatch.setattr(quotas, "_is_admitted", lambda holder: True)
    with pytest.raises(StartProblemError, match="A limit of 4 admitted 6 of 6 calls"):
        quotas.check_limit(quotas.Pace(rounds=1, seconds=0.01, threads=(1, 2), users=1, limit=4))


@pytest.mark.usefixtures("inside")
@pytest.mark.parametrize(("option", "pace"), [((), quotas.FULL), (("--quick",), quotas.QUICK)])
def test_holding_is_measured_at_the_pace_asked_for(monkeypatch, capsys, option, pace):
    monkeypatch.setattr(quotas, "run", lambda chosen, say: {"quick": chosen == quotas.QUICK, "pace": chosen.rounds})
    call_command("bench", "quotas", "--json", *option)
    assert json.loads(capsys.readouterr().out) == {"quick": pace is quotas.QUICK, "pace": pace.rounds}


@pytest.mark.drill
def test_a_whole_measurement_of_quotas(tmp_path):
    run = bench(tmp_path, "--quick", "--json", what="quotas")
    out, err = run.communicate(timeout=120)
    assert run.returncode == 0, err
    result = json.loads(out)
    assert result["one_user"].keys() == result["many_users"].keys() == {"t1", "t8", "t32"}
    assert (result["users"], result["errors"], result["deadlocks"]) == (10_000, 0, 0)
    assert list(tmp_path.iterdir()) == []
