"""GET /api/v1/users/me/usage and /dashboard: what the caller used, and nobody else."""

from datetime import UTC, date, datetime, timedelta

import pytest
import time_machine
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts import services as accounts
from accounts.models import ApiKey
from accounts.tests.credentials import api_key
from analytics.usage import usage_of
from conversations.models import Conversation
from inference.models import Request
from prompts.models import SavedPrompt
from quotas.models import Plan, Quota, Subscription
from quotas.tests.factories import QuotaFactory, SubscriptionFactory

USAGE, DASHBOARD = "/api/v1/users/me/usage", "/api/v1/users/me/dashboard"
# Calls are looked for by their ids, too, and those are made by the real clock, which does not travel.
NOW = datetime(2024, 3, 10, 12, tzinfo=UTC)
TODAY = NOW.date()
NOTHING = dict.fromkeys(("requests", "errors", "input_tokens", "output_tokens", "seconds", "characters", "cost"), 0)


@pytest.fixture(autouse=True)
def _travel():
    with time_machine.travel(NOW, tick=False):
        yield


def request(user, created_at=NOW, **fields):
    running = fields.get("status") == "running"
    return Request.objects.create(
        **{
            "user": user,
            "request_type": "llm",
            "model": "small",
            "status": "success",
            "created_at": created_at,
            "finished_at": None if running else created_at,
            "input_tokens": 10,
            "output_tokens": 5,
            "cost": 3,
        }
        | fields
    )


def days_with_calls(answer):
    return {row["day"]: row["requests"] for row in answer["by_day"] if row["requests"]}


# Usage -----------------------------------------------------------------------------------------------------------


def test_calls_are_summed_up(api, alice):
    request(alice)
    request(alice, status="error", cost=0)
    request(alice, status="cancelled", model="large", output_tokens=7)
    request(alice, status="running", model="large")
    request(alice, NOW - timedelta(days=2), request_type="stt", model="ears", seconds=40, input_tokens=0)
    request(alice, NOW - timedelta(days=2), request_type="tts", model="voice", characters=11, cost=2**40)

    answer = api(alice).get(USAGE, {"days": 3}).json()

    small = NOTHING | {"requests": 2, "errors": 1, "input_tokens": 20, "output_tokens": 10, "cost": 3}
    large = NOTHING | {"requests": 1, "input_tokens": 10, "output_tokens": 7, "cost": 3}
    ears = NOTHING | {"requests": 1, "output_tokens": 5, "seconds": 40, "cost": 3}
    voice = NOTHING | {"requests": 1, "input_tokens": 10, "output_tokens": 5, "characters": 11, "cost": 2**40}

    def together(*rows):
        return {name: sum(row[name] for row in rows) for name in NOTHING}

    assert (answer["days"], answer["since"], answer["until"]) == (3, "2024-03-08", "2024-03-10")
    assert answer["totals"] == together(small, large, ears, voice)
    assert answer["by_day"] == [
        {"day": "2024-03-08"} | together(ears, voice),
        {"day": "2024-03-09"} | NOTHING,
        {"day": "2024-03-10"} | together(small, large),
    ]
    assert answer["by_model"] == [
        {"model": "small"} | small,
        {"model": "ears"} | ears,
        {"model": "large"} | large,
        {"model": "voice"} | voice,
    ]
    assert answer["by_type"] == [
        {"request_type": "llm"} | together(small, large),
        {"request_type": "stt"} | ears,
        {"request_type": "tts"} | voice,
    ]


def test_without_calls_there_are_zeros(api, alice):
    answer = api(alice).get(USAGE).json()

    assert (answer["days"], answer["since"], answer["until"]) == (30, "2024-02-10", "2024-03-10")
    assert answer["totals"] == NOTHING
    assert [row["day"] for row in answer["by_day"]][:2] == ["2024-02-10", "2024-02-11"]
    assert len(answer["by_day"]) == 30
    assert (answer["by_model"], answer["by_type"]) == ([], [])


def test_only_my_own_calls_count_also_for_an_operator(api, alice, bob, olga):
    request(alice)
    request(bob, model="his")

    assert api(alice).get(USAGE).json()["by_model"][0]["model"] == "small"
    assert len(api(alice).get(USAGE).json()["by_model"]) == 1
    assert api(olga).get(USAGE).json()["totals"] == NOTHING


def test_days_are_those_of_utc_and_only_the_last_ones_count(api, alice):
    for moment in ("2024-03-08T23:59:59.999", "2024-03-09T00:00:00", "2024-03-09T23:59:59.999", "2024-03-10T00:00:00"):
        request(alice, datetime.fromisoformat(moment).replace(tzinfo=UTC))
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL timezone TO 'Asia/Tokyo'")

    assert days_with_calls(api(alice).get(USAGE, {"days": 2}).json()) == {"2024-03-09": 2, "2024-03-10": 1}
    assert days_with_calls(api(alice).get(USAGE, {"days": 1}).json()) == {"2024-03-10": 1}
    assert api(alice).get(USAGE, {"days": 365}).json()["totals"]["requests"] == 4


def test_a_call_of_this_very_moment_counts(alice):
    now = time_machine.escape_hatch.datetime.datetime.now(UTC)
    request(alice, now)

    assert usage_of(user_id=alice.pk, days=1, today=now.date()).totals.requests == 1


@pytest.mark.parametrize("days", ["0", "366", "-1", "1.5", "many", "9" * 30])
def test_a_senseless_number_of_days_is_refused(api, alice, days):
    answer = api(alice).get(USAGE, {"days": days})

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "days"


def test_many_calls_take_one_statement(alice):
    for day in range(20):
        request(alice, NOW - timedelta(days=day), model=f"m{day}")

    with CaptureQueriesContext(connection) as captured:
        usage = usage_of(user_id=alice.pk, days=30)

    assert len(captured) == 1
    assert usage.totals.requests == 20
    assert (usage.since, usage.until) == (date(2024, 2, 10), TODAY)


# Dashboard -------------------------------------------------------------------------------------------------------


def test_everything_at_a_glance(api, alice):
    SubscriptionFactory(user=alice, plan=Plan.objects.get(slug="pro"))
    QuotaFactory(user=alice, limit=10, current_usage=4)
    for number in range(7):
        request(alice, NOW - timedelta(hours=number), request_data={"secret": 1})
    request(alice, NOW - timedelta(days=7))
    Conversation.objects.create(user=alice)
    for title in ("One", "Two"):
        SavedPrompt.objects.create(user=alice, title=title, content="Text")
    api_key(alice)
    api_key(alice)
    accounts.revoke_api_key(key_id=ApiKey.objects.first().pk, by=alice)

    client = api(alice)
    answer = client.get(DASHBOARD).json()

    assert answer["user"] == client.get("/api/v1/users/me").json()
    assert answer["subscription"] == client.get("/api/v1/users/me/subscription").json()
    assert answer["subscription"]["plan"]["slug"] == "pro"
    assert answer["quotas"] == client.get("/api/v1/users/me/quotas").json()
    assert answer["quotas"][0]["remaining"] == 6
    usage = client.get(USAGE, {"days": 7}).json()
    assert answer["usage"] == {name: usage[name] for name in ("days", "since", "until", "totals", "by_day")}
    assert answer["usage"]["totals"]["requests"] == 7
    newest = sorted((str(made.pk) for made in Request.objects.all()), reverse=True)[:5]
    assert [row["id"] for row in answer["recent_requests"]] == newest
    assert "request_data" not in answer["recent_requests"][0]
    assert answer["counts"] == {"api_keys": 1, "conversations": 1, "saved_prompts": 2}


def test_a_new_user_sees_the_default_plan_and_zeros(api, alice):
    answer = api(alice).get(DASHBOARD).json()

    assert answer["subscription"]["plan"]["slug"] == "free"
    assert len(answer["quotas"]) == 5
    assert answer["usage"]["totals"] == NOTHING
    assert len(answer["usage"]["by_day"]) == 7
    assert answer["recent_requests"] == []
    assert answer["counts"] == {"api_keys": 0, "conversations": 0, "saved_prompts": 0}
    assert Subscription.objects.get(user=alice).plan.slug == "free"


def test_nothing_of_anybody_else_is_counted(api, alice, bob):
    request(bob)
    Conversation.objects.create(user=bob)
    SavedPrompt.objects.create(user=bob, title="His", content="Text")
    api_key(bob)
    QuotaFactory(user=bob, limit=77)

    answer = api(alice).get(DASHBOARD).json()

    assert answer["counts"] == {"api_keys": 0, "conversations": 0, "saved_prompts": 0}
    assert answer["recent_requests"] == []
    assert answer["usage"]["totals"] == NOTHING
    assert 77 not in {quota["limit"] for quota in answer["quotas"]}


def test_budgets_of_keys_are_not_among_the_quotas(api, alice):
    api_key(alice)
    SubscriptionFactory(user=alice)
    own = QuotaFactory(user=alice)
    QuotaFactory(user=alice, api_key=ApiKey.objects.get())

    assert Quota.objects.count() == 2
    assert [row["id"] for row in api(alice).get(DASHBOARD).json()["quotas"]] == [str(own.pk)]


def test_without_any_plan_the_subscription_is_null(api, alice):
    Plan.objects.update(is_default=False)

    assert api(alice).get(DASHBOARD).json()["subscription"] is None


@pytest.mark.parametrize("path", [USAGE, DASHBOARD])
def test_nobody_sees_nothing(api, db, path):
    assert api().get(path).status_code == 401
