"""The dashboard and the daily statistics."""

import json
from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.tests.factories import UserFactory
from analytics.models import DailyStat
from inference.models import Request
from tests.admin import page


@pytest.fixture
def operator(client, olga):
    client.force_login(olga)
    return client


def stat(days_ago=0, **fields):
    day = timezone.now().date() - timedelta(days=days_ago)
    given = {"request_type": "llm", "model": "smollm2", "requests": 10, "errors": 0} | fields
    return DailyStat.objects.create(day=day, **given)


def numbers(answer):
    return [[number["value"] for number in span["numbers"]] for span in answer.context["spans"]]


def test_the_dashboard_of_an_empty_house(operator):
    answer = operator.get("/admin/")

    assert answer.status_code == 200
    assert numbers(answer) == [["0", "0", "0", "$0.00"], ["0", "0", "0", "$0.00"]]
    assert "No calls in the last 14 days" in answer.content.decode()
    assert answer.context["running"] == 0


def test_the_dashboard_sums_today_and_the_week(operator, alice):
    stat(requests=1000, errors=5, input_tokens=3000, output_tokens=400, cost=2_500)
    stat(model="other", requests=20, errors=15, input_tokens=7)
    stat(days_ago=6, requests=100, cost=1_000_000)
    stat(days_ago=7, requests=5000)
    Request.objects.create(user=alice, request_type="llm", model="smollm2")

    answer = operator.get("/admin/")

    assert numbers(answer) == [["1,020", "20", "3,407", "$0.0025"], ["1,120", "20", "3,407", "$1.0025"]]
    assert answer.context["spans"][0]["numbers"][1]["note"] == "2.0 % of the calls"
    assert answer.context["running"] == 1
    assert [model["name"] for model in answer.context["models"]] == ["smollm2", "other"]
    assert answer.context["models"][1]["share"] == 1.8


def test_the_chart_has_a_bar_for_each_day(operator):
    stat(requests=10, errors=4)
    stat(days_ago=13, requests=7)
    stat(days_ago=14, requests=1000)

    chart = json.loads(operator.get("/admin/").context["chart"])

    answered, failed = (dataset["data"] for dataset in chart["datasets"])
    assert len(chart["labels"]) == 14
    assert (answered[0], answered[-1], sum(answered)) == (7, 6, 13)
    assert (failed[0], failed[-1]) == (0, 4)


def test_the_dashboard_costs_the_same_however_much_there_is(operator, django_assert_max_num_queries):
    for days_ago in range(20):
        for model in range(20):
            stat(days_ago=days_ago, model=f"model-{model}")
    operator.get("/admin/")

    with django_assert_max_num_queries(5):
        assert len(operator.get("/admin/").context["models"]) == 8


def test_daily_statistics_are_listed_newest_and_largest_first(operator):
    stat(days_ago=1, requests=99)
    stat(requests=5, errors=1, model="small")
    stat(requests=6, model="large")

    answer = operator.get(page(DailyStat, "changelist"))

    assert [row.requests for row in answer.context["cl"].result_list] == [6, 5, 99]
    assert "1 (20.0 %)" in answer.content.decode()
    today = timezone.now().date().isoformat()
    listed = operator.get(page(DailyStat, "changelist"), {"day_from": today, "day_to": today}).context["cl"]
    assert [row.model for row in listed.result_list] == ["large", "small"]


def test_staff_without_rights_see_the_numbers_only(client, db):
    client.force_login(UserFactory(is_staff=True))
    stat()

    assert client.get("/admin/").status_code == 200
    assert client.get(page(DailyStat, "changelist")).status_code == 403
