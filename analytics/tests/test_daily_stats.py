"""The roll-up of the request history, and GET /api/v1/analytics/daily-stats for staff."""

from datetime import UTC, date, datetime

import pytest
import time_machine
from django.db import IntegrityError, connection, transaction

from analytics import services
from analytics.models import DailyStat
from analytics.tasks import rollup_usage
from inference.models import Request

PATH = "/api/v1/analytics/daily-stats"
TODAY = date(2026, 3, 10)
NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)


def request(user, created_at=NOW, **fields):
    running = fields.get("status") == "running"
    return Request.objects.create(
        **{
            "user": user,
            "request_type": "llm",
            "model": "smollm2",
            "status": "success",
            "created_at": created_at,
            "finished_at": None if running else created_at,
            "input_tokens": 10,
            "output_tokens": 5,
            "cost": 3,
        }
        | fields
    )


def test_a_day_of_a_model_is_summed_up(alice, bob):
    request(alice)
    request(alice, status="error")
    request(bob, status="cancelled", cost=0)
    request(bob, status="running")
    request(bob, model="other", request_type="embedding")

    assert services.roll_up(today=TODAY) == 2

    stat = DailyStat.objects.get(model="smollm2")
    assert (stat.day, stat.request_type, stat.requests, stat.errors, stat.users) == (TODAY, "llm", 3, 1, 2)
    assert (stat.input_tokens, stat.output_tokens, stat.cost) == (30, 15, 6)


def test_repeating_changes_nothing_and_what_came_late_is_added(alice):
    request(alice)
    services.roll_up(today=TODAY)
    before = DailyStat.objects.get()
    services.roll_up(today=TODAY)
    request(alice)
    services.roll_up(today=TODAY)

    after = DailyStat.objects.get()
    assert after.pk == before.pk
    assert (before.requests, after.requests) == (1, 2)


def test_days_are_those_of_utc_and_only_the_last_ones_are_rolled_up(alice):
    for moment in ("2026-03-08T23:59:59", "2026-03-09T00:00:00", "2026-03-09T23:59:59", "2026-03-10T00:00:00"):
        request(alice, datetime.fromisoformat(moment).replace(tzinfo=UTC))
    request(alice, datetime(2026, 3, 11, tzinfo=UTC))
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL timezone TO 'Asia/Tokyo'")

    services.roll_up(days=2, today=TODAY)

    assert dict(DailyStat.objects.values_list("day", "requests")) == {date(2026, 3, 9): 2, TODAY: 1}


@time_machine.travel(NOW, tick=False)
def test_the_task_rolls_up_today(alice):
    request(alice)

    rollup_usage()

    assert DailyStat.objects.get().day == TODAY


def test_a_day_of_a_model_is_one_row_and_its_errors_are_requests(db):
    DailyStat.objects.create(day=TODAY, request_type="llm", model="m", requests=1)
    with pytest.raises(IntegrityError), transaction.atomic():
        DailyStat.objects.create(day=TODAY, request_type="llm", model="m")
    with pytest.raises(IntegrityError), transaction.atomic():
        DailyStat.objects.update(errors=2)


# The endpoint ----------------------------------------------------------------------------------------------------


@pytest.fixture
def stats(db):
    for day in (8, 9, 10):
        for model in ("a", "b"):
            DailyStat.objects.create(day=date(2026, 3, day), request_type="llm", model=model, requests=day)


def test_staff_see_the_days_newest_first(api, olga, stats):
    results = api(olga).get(PATH).json()["results"]

    assert [(row["day"][-2:], row["model"]) for row in results] == [
        *(("10", "a"), ("10", "b"), ("09", "a")),
        *(("09", "b"), ("08", "a"), ("08", "b")),
    ]
    assert results[0]["requests"] == 10


def test_nobody_else_sees_them(api, alice, stats):
    assert api().get(PATH).status_code == 401
    refused = api(alice).get(PATH)
    assert refused.status_code == 403
    assert refused.json()["error"]["type"] == "permission_error"


def test_they_can_be_narrowed(api, olga, stats):
    def found(**query):
        return [(row["day"][-2:], row["model"]) for row in api(olga).get(PATH, query).json()["results"]]

    assert found(day="2026-03-09") == [("09", "a"), ("09", "b")]
    assert found(day__gte="2026-03-09", day__lte="2026-03-09", model="b") == [("09", "b")]
    assert found(request_type="tts") == []


@pytest.mark.parametrize("query", [{"day": "yesterday"}, {"day__gte": "2026-02-30"}, {"request_type": "odd"}])
def test_a_senseless_filter_is_named(api, olga, query):
    answer = api(olga).get(PATH, query)

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == next(iter(query))


def test_pages_follow_each_other(api, olga, db):
    DailyStat.objects.bulk_create(
        DailyStat(day=date(2026, 1, 1 + n % 5), request_type="llm", model=f"m{n:03}") for n in range(250)
    )
    seen, path = [], PATH
    while path:
        page = api(olga).get(path).json()
        seen += [(row["day"], row["model"]) for row in page["results"]]
        path = page["next"]

    assert len(seen) == len(set(seen)) == 250
