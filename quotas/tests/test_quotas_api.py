"""GET /api/v1/users/me/quotas, POST /api/v1/quotas/check and /api/v1/quotas/usage."""

import pytest

from quotas.models import Quota, Reservation
from quotas.tests.factories import QuotaFactory

MINE = "/api/v1/users/me/quotas"
CHECK = "/api/v1/quotas/check"
USAGE = "/api/v1/quotas/usage"

BAD_AMOUNTS = [
    (None, "null"),
    ({}, "required"),
    ([], "not_a_dict"),
    ("llm.requests", "not_a_dict"),
    ({"llm.requests": -1}, "min_value"),
    ({"llm.requests": 2**53 + 1}, "max_value"),
    ({"llm.requests": 10**30}, "invalid"),
    ({"llm.requests": 1.5}, "invalid"),
    ({"llm.requests": "many"}, "invalid"),
    ({"llm.requests": ""}, "invalid"),
    ({"llm.requests": None}, "null"),
    ({"llm.requests": True}, "invalid"),
    ({"llm.requests": [1]}, "invalid"),
    ({"llm.requests": {"a": 1}}, "invalid"),
    ({"llm.requests": "9" * 2000}, "max_string_length"),
    ({"llm.bananas": 1}, "unknown_meter"),
    ({"llm": 1}, "unknown_meter"),
    ({"": 1}, "unknown_meter"),
    ({".": 1}, "unknown_meter"),
    ({"llm.requests.day": 1}, "unknown_meter"),
    ({"llm.requests": 1, "LLM.tokens": 1}, "unknown_meter"),
]


@pytest.fixture
def quota(alice):
    return QuotaFactory(user=alice, limit=10)


def test_a_new_user_sees_the_quotas_of_the_default_plan_the_first_time(api, alice):
    quotas = api(alice).get(MINE).json()

    assert len(quotas) == 5
    first = next(quota for quota in quotas if (quota["resource_type"], quota["unit"]) == ("llm", "requests"))
    assert (first["limit"], first["current_usage"], first["held"], first["remaining"]) == (200, 0, 0, 200)
    assert first["reset_date"].endswith("Z")


def test_i_see_what_i_used_and_what_is_held(api, alice, bob, quota):
    QuotaFactory(user=bob, limit=77)
    Quota.objects.filter(pk=quota.pk).update(current_usage=3, held=2)

    (mine,) = api(alice).get(MINE).json()

    assert (mine["limit"], mine["current_usage"], mine["held"], mine["remaining"]) == (10, 3, 2, 5)


@pytest.mark.parametrize(("amount", "allowed"), [(10, True), (11, False), (0, True)])
def test_check_says_yes_or_no_and_holds_nothing(api, alice, quota, amount, allowed):
    answer = api(alice).post(CHECK, {"amounts": {"llm.requests": amount}})

    assert answer.status_code == 200
    assert answer.json()["allowed"] is allowed
    assert (answer.json()["reason"] is None) is allowed
    assert [found["id"] for found in answer.json()["quotas"]] == [str(quota.pk)]
    quota.refresh_from_db()
    assert (quota.current_usage, quota.held) == (0, 0)


def test_usage_charges_and_answers_what_is_left(api, alice, quota):
    answer = api(alice).post(USAGE, {"amounts": {"llm.requests": 4}})

    assert answer.status_code == 201
    assert [(found["current_usage"], found["remaining"]) for found in answer.json()] == [(4, 6)]


def test_usage_that_does_not_fit_is_refused_so_that_clients_do_not_retry(api, alice, quota):
    too_much = api(alice).post(USAGE, {"amounts": {"llm.requests": 11}})
    Quota.objects.update(held=1)
    answer = api(alice).post(USAGE, {"amounts": {"llm.requests": 10}})

    assert (too_much.status_code, answer.status_code) == (429, 429)
    assert "Retry-After" not in too_much.headers
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("insufficient_quota", "insufficient_quota")
    assert answer["x-should-retry"] == "false"
    assert answer["x-quota-reset"] == quota.reset_date.isoformat().replace("+00:00", "Z")
    assert int(answer["Retry-After"]) > 0
    quota.refresh_from_db()
    assert quota.current_usage == 0


def test_usage_of_what_the_plan_does_not_have_names_no_date(api, alice, quota):
    answer = api(alice).post(USAGE, {"amounts": {"llm.cost": 1}})

    assert answer.status_code == 429
    assert answer["x-should-retry"] == "false"
    assert "Retry-After" not in answer
    assert "x-quota-reset" not in answer


@pytest.mark.parametrize("path", [CHECK, USAGE, "/api/v1/quotas/reservations"])
@pytest.mark.parametrize(("amounts", "code"), BAD_AMOUNTS)
def test_senseless_amounts_are_refused_and_change_nothing(api, alice, quota, path, amounts, code):
    answer = api(alice).post(path, {"amounts": amounts})

    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", code)
    assert error["param"].split(".")[0] == "amounts"
    quota.refresh_from_db()
    assert (quota.current_usage, quota.held) == (0, 0)
    assert not Reservation.objects.exists()


@pytest.mark.parametrize("path", [CHECK, USAGE, "/api/v1/quotas/reservations"])
@pytest.mark.parametrize("body", [{}, [], "text", 3, None, [{"amounts": {"llm.requests": 1}}]])
def test_a_body_without_amounts_is_refused(api, alice, path, body):
    assert api(alice).post(path, body, content_type="application/json").status_code == 400


def test_large_amounts_are_counted_exactly(api, alice):
    QuotaFactory(user=alice, limit=2**60)

    for _ in range(3):
        assert api(alice).post(USAGE, {"amounts": {"llm.requests": 2**53}}).status_code == 201
    (mine,) = api(alice).get(MINE).json()
    assert mine["current_usage"] == 3 * 2**53


def test_nothing_overflows(api, alice):
    QuotaFactory(user=alice, limit=1, overage_allowed=True)
    Quota.objects.update(current_usage=2**63 - 10)

    answer = api(alice).post(USAGE, {"amounts": {"llm.requests": 100}})

    assert answer.status_code in {201, 429}
