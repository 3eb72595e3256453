"""/api/v1/quotas/reservations: make, list, get, confirm and release."""

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from quotas import services
from quotas.meters import Meter
from quotas.models import Quota, Reservation
from quotas.tests.factories import QuotaFactory

PATH = "/api/v1/quotas/reservations"
TEN = {"amounts": {"llm.requests": 10}}


@pytest.fixture
def quota(alice):
    return QuotaFactory(user=alice, limit=100)


@pytest.fixture
def mine(api, alice, quota):
    """The path of a reservation of ten requests."""
    return f"{PATH}/{api(alice).post(PATH, TEN).json()['id']}"


def state(quota):
    quota.refresh_from_db()
    return quota.current_usage, quota.held


def test_making_one_holds_its_amounts(api, alice, quota):
    answer = api(alice).post(PATH, TEN)

    assert answer.status_code == 201
    body = answer.json()
    assert (body["status"], body["amounts"], body["used"]) == ("held", {"llm.requests": 10}, None)
    lives = datetime.fromisoformat(body["expires_at"]) - datetime.now(UTC)
    assert timedelta(seconds=800) < lives <= timedelta(seconds=900)
    assert not {"holds", "user", "by_client"} & set(body)
    assert state(quota) == (0, 10)


def test_one_that_does_not_fit_is_refused(api, alice, quota):
    answer = api(alice).post(PATH, {"amounts": {"llm.requests": 101}})

    assert answer.status_code == 429
    assert answer.json()["error"]["code"] == "insufficient_quota"
    assert not Reservation.objects.exists()


@pytest.mark.parametrize("seconds", [1, 86_400])
def test_it_lives_as_long_as_was_asked_for(api, alice, quota, seconds):
    body = api(alice).post(PATH, TEN | {"seconds": seconds}).json()

    lives = datetime.fromisoformat(body["expires_at"]) - datetime.fromisoformat(body["created_at"])
    assert lives == timedelta(seconds=seconds)


@pytest.mark.parametrize("seconds", [0, -1, 86_401, 1.5, "long", None, [1], 10**40])
def test_a_senseless_life_is_refused(api, alice, quota, seconds):
    answer = api(alice).post(PATH, TEN | {"seconds": seconds})

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "seconds"


def test_confirming_charges_the_real_amount(api, alice, quota, mine):
    answer = api(alice).post(f"{mine}/confirm", {"amounts": {"llm.requests": 3}})

    assert answer.status_code == 200
    assert (answer.json()["status"], answer.json()["used"]) == ("confirmed", {"llm.requests": 3})
    assert answer.json()["settled_at"] is not None
    assert state(quota) == (3, 0)
    assert api(alice).get(mine).json() == answer.json()


def test_an_overrun_says_what_was_used_and_what_was_charged(api, alice, quota, mine):
    api(alice).post(PATH, {"amounts": {"llm.requests": 85}})

    answer = api(alice).post(f"{mine}/confirm", {"amounts": {"llm.requests": 40}})

    assert answer.json()["used"] == {"llm.requests": 40}
    assert list(answer.json()["charged"].values()) == [15]
    assert state(quota) == (15, 85)


def test_confirming_a_meter_that_is_not_held_is_refused_and_leaves_the_hold(api, alice, quota, mine):
    answer = api(alice).post(f"{mine}/confirm", {"amounts": {"llm.requests": 1, "llm.tokens": 5}})

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "amounts"
    assert "llm.tokens" in answer.json()["error"]["message"]
    assert state(quota) == (0, 10)


def test_releasing_charges_nothing(api, alice, quota, mine):
    answer = api(alice).post(f"{mine}/release")

    assert (answer.status_code, answer.json()["status"]) == (200, "released")
    assert state(quota) == (0, 0)


@pytest.mark.parametrize("first", ["confirm", "release"])
@pytest.mark.parametrize("second", ["confirm", "release"])
def test_ending_it_twice_is_a_conflict(api, alice, quota, mine, first, second):
    body = {"amounts": {"llm.requests": 3}}
    assert api(alice).post(f"{mine}/{first}", body).status_code == 200
    before = state(quota)

    answer = api(alice).post(f"{mine}/{second}", body)

    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "reservation_not_held"
    assert state(quota) == before


def test_one_that_has_expired_can_still_be_confirmed_once(api, alice, quota, mine):
    services.sweep_expired(now=timezone.now() + timedelta(days=1))
    assert api(alice).get(mine).json()["status"] == "expired"

    assert api(alice).post(f"{mine}/release").status_code == 409
    assert api(alice).post(f"{mine}/confirm", TEN).status_code == 200
    assert api(alice).post(f"{mine}/confirm", TEN).status_code == 409
    assert state(quota) == (10, 0)


@pytest.mark.parametrize(
    "body", [{}, {"amounts": {}}, {"amounts": {"llm.requests": -1}}, {"amounts": {"llm.x": 1}}, []]
)
def test_a_senseless_confirmation_leaves_the_hold(api, alice, quota, mine, body):
    assert api(alice).post(f"{mine}/confirm", body).status_code == 400
    assert state(quota) == (0, 10)


def test_somebody_elses_is_not_found_and_not_touched(api, bob, olga, quota, mine):
    for who in (bob, olga):
        answers = [api(who).get(mine), api(who).post(f"{mine}/confirm", TEN), api(who).post(f"{mine}/release")]
        assert {answer.status_code for answer in answers} == {404}
        assert api(who).get(PATH).json()["results"] == []
    assert state(quota) == (0, 10)


def test_the_hold_of_a_metered_call_is_out_of_the_callers_reach(api, alice, quota):
    """Who could release it while the call runs would not be charged for the call."""
    hold = services.reserve(user_id=alice.pk, amounts={Meter("llm", "requests"): 5}, seconds=60)

    answers = [
        api(alice).get(f"{PATH}/{hold.id}"),
        api(alice).post(f"{PATH}/{hold.id}/release"),
        api(alice).post(f"{PATH}/{hold.id}/confirm", {"amounts": {"llm.requests": 0}}),
    ]

    assert {answer.status_code for answer in answers} == {404}
    assert api(alice).get(PATH).json()["results"] == []
    assert state(quota) == (0, 5)


@pytest.mark.parametrize("name", ["00000000-0000-0000-0000-000000000000", "7", "none", "%00"])
def test_one_that_does_not_exist_is_not_found(api, alice, name):
    assert api(alice).get(f"{PATH}/{name}").status_code == 404
    assert api(alice).post(f"{PATH}/{name}/release").status_code == 404
    assert api(alice).post(f"{PATH}/{name}/confirm", TEN).status_code == 404


def test_the_list_is_mine_newest_first_and_in_pages(api, alice, bob, quota):
    ids = [api(alice).post(PATH, {"amounts": {"llm.requests": 1}}).json()["id"] for _ in range(5)]
    QuotaFactory(user=bob)
    api(bob).post(PATH, TEN)

    first = api(alice).get(PATH, {"limit": 3}).json()
    second = api(alice).get(first["next"]).json()

    assert [found["id"] for found in first["results"] + second["results"]] == ids[::-1]
    assert first["previous"] is None
    assert second["next"] is None
    assert api(alice).get(second["previous"]).json()["results"] == first["results"]


def test_the_list_can_be_narrowed_to_a_status(api, alice, quota, mine):
    api(alice).post(PATH, TEN)
    api(alice).post(f"{mine}/release")

    assert [found["status"] for found in api(alice).get(PATH, {"status": "released"}).json()["results"]] == ["released"]
    wrong = api(alice).get(PATH, {"status": "odd"})
    assert wrong.status_code == 400
    assert wrong.json()["error"]["param"] == "status"


def test_reserving_begins_a_period_that_is_due(api, alice, quota):
    Quota.objects.update(current_usage=95, reset_date=datetime(2020, 1, 1, tzinfo=UTC))

    assert api(alice).post(PATH, TEN).status_code == 201
    assert state(quota) == (0, 10)
