"""The pieces of `manage.py bench ratelimit`; the whole of it is a drill."""

import json

import pytest
from django.core.management import call_command

from accounts.caller import Caller
from config.bench import installation, ratelimit, rows
from config.embedded.process import StartProblemError
from config.tests.benches import bench


@pytest.mark.django_db
def test_decisions_are_measured_beside_bare_round_trips():
    (customer,) = rows.make_customers(1)
    caller = Caller(user_id=customer.user_id, api_key_id=customer.api_key_id)
    result = ratelimit.measure(caller, rounds=2, calls=20)
    for name in ("empty", "script", "decision"):
        assert result[name]["p50_ms"] > 0
    assert result["windows"] == 4
    assert result["ratio_to_empty"] > 0 < result["ratio_to_script"]


@pytest.mark.django_db
def test_a_measurement_that_reaches_the_limits_is_none(monkeypatch):
    monkeypatch.setattr(rows, "MOST_RATE", 3)
    (customer,) = rows.make_customers(1)
    with pytest.raises(StartProblemError, match="limits"):
        ratelimit.measure(Caller(user_id=customer.user_id), rounds=1, calls=9)


FIGURES_OF_REDIS = {"rps": 20_000.0, "p50_ms": 0.05, "p99_ms": 0.099}
DECISIONS = {
    "empty": FIGURES_OF_REDIS,
    "script": FIGURES_OF_REDIS | {"p50_ms": 0.06},
    "decision": FIGURES_OF_REDIS | {"p50_ms": 0.075},
    "ratio_to_empty": 1.5,
    "ratio_to_script": 1.25,
    "windows": 4,
    "server": "redis",
    "machine": {"cores": 2, "processor": "Abacus"},
    "versions": {"python": "3.11.7", "redis": "7.4.1"},
}


@pytest.mark.parametrize("as_json", [True, False])
def test_the_result_of_decisions_goes_to_standard_output(monkeypatch, capsys, as_json):
    monkeypatch.setenv(installation.INSIDE, "1")
    monkeypatch.setattr(ratelimit, "run", lambda *, quick, say: DECISIONS | {"quick": quick})
    call_command("bench", "ratelimit", "--quick", *(["--json"] if as_json else []))
    out = capsys.readouterr().out
    if as_json:
        assert json.loads(out) == DECISIONS | {"quick": True}
    else:
        (line,) = (line for line in out.splitlines() if line.startswith("one decision"))
        assert line.split()[2:] == ["20,000", "75", "99"]
        assert "1.50" in out


@pytest.mark.drill
def test_a_whole_measurement_of_decisions(tmp_path):
    run = bench(tmp_path, "--quick", "--json", what="ratelimit")
    out, err = run.communicate(timeout=60)
    assert run.returncode == 0, err
    assert json.loads(out)["windows"] == 4
    assert list(tmp_path.iterdir()) == []
