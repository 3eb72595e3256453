"""GET and PUT /api/v1/users/me/api-keys/{id}/budgets, and what a key with budgets is told."""

import pytest

from accounts.models import ApiKey, AuditEvent
from accounts.tests.credentials import api_key
from quotas.models import Quota
from quotas.services.budgets import MOST_BUDGETS
from quotas.tests.factories import QuotaFactory

DAILY = {"resource_type": "llm", "unit": "requests", "period": "day", "limit": 10}
COSTS = {"resource_type": "llm", "unit": "cost", "period": "none", "limit": 2**63 - 1}
AMOUNTS = {"amounts": {"llm.requests": 4}}


@pytest.fixture
def raw(alice):
    return api_key(alice)


@pytest.fixture
def key(raw):
    return ApiKey.objects.get()


@pytest.fixture
def path(key):
    return f"/api/v1/users/me/api-keys/{key.pk}/budgets"


@pytest.fixture
def quota(alice):
    return QuotaFactory(user=alice, limit=100)


def put(api, who, path, body):
    return api(who).put(path, body, content_type="application/json")


def test_a_key_has_no_budgets_at_first(api, alice, path):
    answer = api(alice).get(path)

    assert (answer.status_code, answer.json()) == (200, [])


def test_they_are_set_as_a_whole_and_shown_with_what_is_left(api, alice, key, path):
    answer = put(api, alice, path, [DAILY, COSTS])

    assert answer.status_code == 200
    assert answer.json() == api(alice).get(path).json()
    costs, daily = answer.json()
    assert costs == COSTS | {"current_usage": 0, "held": 0, "remaining": 2**63 - 1, "reset_date": None}
    assert daily.pop("reset_date").endswith("Z")
    assert daily == DAILY | {"current_usage": 0, "held": 0, "remaining": 10}

    assert put(api, alice, path, [DAILY | {"limit": 3}]).json()[0]["limit"] == 3
    assert put(api, alice, path, []).json() == []
    event = AuditEvent.objects.filter(action="api_key.budgets_changed").latest("id")
    assert (event.actor_id, event.target_id) == (alice.pk, str(key.pk))


def test_what_was_answered_can_be_sent_back(api, alice, path, raw, quota):
    put(api, alice, path, [DAILY, COSTS])
    api(raw).post("/api/v1/quotas/usage", AMOUNTS)
    put(api, alice, path, [DAILY | {"limit": 2}, COSTS])
    shown = api(alice).get(path).json()
    assert [(row["limit"], row["current_usage"], row["remaining"]) for row in shown][1] == (2, 4, 0)

    assert put(api, alice, path, shown).json() == shown


def test_a_key_is_told_that_its_budget_is_too_small(api, alice, path, raw, quota):
    put(api, alice, path, [DAILY | {"limit": 7}])
    assert api(raw).post("/api/v1/quotas/usage", AMOUNTS).status_code == 201

    refused = [api(raw).post(f"/api/v1/quotas/{name}", AMOUNTS) for name in ("usage", "reservations")]

    for answer in refused:
        assert answer.status_code == 429
        error = answer.json()["error"]
        assert (error["type"], error["code"]) == ("insufficient_quota", "insufficient_quota_of_key")
        assert "budget of this API key has 3 of 7 llm.requests left" in error["message"]
        assert answer["x-should-retry"] == "false"
        assert int(answer["Retry-After"]) > 0
    assert api(alice).post("/api/v1/quotas/usage", AMOUNTS).status_code == 201


def test_a_reservation_of_the_key_is_held_on_its_budget_until_it_ends(api, alice, path, raw, quota):
    put(api, alice, path, [DAILY])

    hold = api(raw).post("/api/v1/quotas/reservations", AMOUNTS).json()["id"]
    assert api(alice).get(path).json()[0]["held"] == 4
    api(alice).post(f"/api/v1/quotas/reservations/{hold}/confirm", {"amounts": {"llm.requests": 3}})

    (budget,) = api(alice).get(path).json()
    assert (budget["current_usage"], budget["held"], budget["remaining"]) == (3, 0, 7)


def test_check_shows_the_budgets_of_the_key_that_asks(api, alice, path, raw, quota):
    put(api, alice, path, [DAILY | {"limit": 3}])

    of_key, of_owner = (api(who).post("/api/v1/quotas/check", AMOUNTS).json() for who in (raw, alice))

    assert (of_key["allowed"], of_owner["allowed"]) == (False, True)
    assert "budget of this API key" in of_key["reason"]
    assert [row["limit"] for row in of_key["budgets"]] == [3]
    assert [row["id"] for row in of_key["quotas"]] == [str(quota.pk)]
    assert of_owner["budgets"] == []


def test_my_quotas_are_shown_without_budgets(api, alice, path, quota):
    put(api, alice, path, [DAILY])

    assert [row["id"] for row in api(alice).get("/api/v1/users/me/quotas").json()] == [str(quota.pk)]


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ([DAILY | {"resource_type": "bananas"}], "0.resource_type", "invalid_choice"),
        ([DAILY | {"unit": "boxes"}], "0.unit", "invalid_choice"),
        ([COSTS, DAILY | {"period": "fortnight"}], "1.period", "invalid_choice"),
        ([DAILY | {"limit": 0}], "0.limit", "min_value"),
        ([DAILY | {"limit": 2**63}], "0.limit", "max_value"),
        ([DAILY | {"limit": 1.5}], "0.limit", "invalid"),
        ([DAILY | {"limit": None}], "0.limit", "null"),
        ([{"resource_type": "llm", "unit": "requests", "limit": 1}], "0.period", "required"),
        ([3], "0", "invalid"),
        (DAILY, None, "not_a_list"),
        ([DAILY, DAILY | {"limit": 4}], None, "duplicate"),
        ([DAILY] * (MOST_BUDGETS + 1), None, "invalid_value"),
    ],
)
def test_senseless_budgets_are_refused_and_change_nothing(api, alice, path, body, param, code):
    put(api, alice, path, [DAILY])

    answer = put(api, alice, path, body)

    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, code)
    assert [row["limit"] for row in api(alice).get(path).json()] == [10]


def test_nobody_else_finds_them(api, bob, olga, path):
    for who in (bob, olga):
        assert api(who).get(path).status_code == 404
        assert put(api, who, path, [DAILY]).status_code == 404
    assert api().get(path).status_code == 401
    assert not Quota.objects.exclude(api_key=None).exists()


def test_a_key_that_could_lift_its_own_budget_gets_none(api, alice):
    raw = api_key(alice, scopes=["admin", "inference"])
    path = f"/api/v1/users/me/api-keys/{ApiKey.objects.get().pk}/budgets"

    for who in (alice, raw):
        answer = put(api, who, path, [DAILY])
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "key_manages_account")
    assert not Quota.objects.exists()


def test_a_key_with_a_budget_cannot_touch_it(api, alice, raw, path):
    assert put(api, alice, path, [DAILY]).status_code == 200

    assert put(api, raw, path, []).status_code == 403
    assert Quota.objects.of_key(ApiKey.objects.get().pk).count() == 1
