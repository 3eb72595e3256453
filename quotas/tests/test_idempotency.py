"""Idempotency-Key on the endpoints of quotas: the same call again gets the same answer, and is charged once."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import time_machine
from django.db import connection
from django.utils import timezone

from accounts.tests.credentials import api_key
from accounts.tests.factories import UserFactory
from quotas.models import IdempotencyRecord, Quota, Reservation
from quotas.tests.factories import QuotaFactory

USAGE, RESERVATIONS = "/api/v1/quotas/usage", "/api/v1/quotas/reservations"
FOUR = {"amounts": {"llm.requests": 4, "llm.tokens": 1}}


@pytest.fixture
def quota(alice):
    return QuotaFactory(user=alice, limit=10)


def post(client, path, body=None, key="k", **headers):
    return client.post(path, FOUR if body is None else body, headers={"Idempotency-Key": key, **headers})


def taken(quota):
    quota.refresh_from_db()
    return quota.current_usage + quota.held


def code(answer):
    return answer.status_code, answer.json()["error"]["code"]


@pytest.mark.parametrize("path", [USAGE, RESERVATIONS])
def test_the_same_call_again_gets_the_same_answer_and_is_charged_once(api, alice, quota, path):
    first = post(api(alice), path)
    again = [
        post(api(alice), path, body)
        for body in (
            FOUR,
            {"amounts": {"llm.tokens": 1, "llm.requests": 4}},
            '{"amounts":{"llm.tokens":1,"llm.requests":4}}',
        )
    ]

    assert first.status_code == 201
    assert "Idempotent-Replayed" not in first
    for answer in again:
        assert (answer.status_code, answer.content, answer["Content-Type"]) == (201, first.content, "application/json")
        assert answer["Idempotent-Replayed"] == "true"
    assert taken(quota) == 4
    assert Reservation.objects.get().idempotency_key == "k"


@pytest.mark.parametrize(
    ("path", "body"),
    [(USAGE, {"amounts": {"llm.requests": 4}}), (USAGE, {**FOUR, "more": 1}), (RESERVATIONS, FOUR)],
    ids=["other amounts", "another field", "another endpoint"],
)
def test_a_key_is_good_for_one_call(api, alice, quota, path, body):
    post(api(alice), USAGE)

    assert code(post(api(alice), path, body)) == (422, "idempotency_key_reused")
    assert taken(quota) == 4


def test_a_key_is_its_users_own(api, alice, bob, quota):
    his = QuotaFactory(user=bob, limit=10)

    assert [post(api(user), USAGE).status_code for user in (alice, bob)] == [201, 201]
    assert post(api(bob), USAGE, {"amounts": {"llm.requests": 1}}).status_code == 422
    assert (taken(quota), taken(his)) == (4, 4)


def test_who_acts_for_others_uses_the_keys_of_those_who_pay(api, olga):
    bot = api(api_key(olga, scopes=["act-as", "inference"]))

    answers = [post(bot, RESERVATIONS, **{"X-On-Behalf-Of": f"discord:{person}"}) for person in (1, 2, 1)]

    assert {answer.status_code for answer in answers} == {201}
    assert answers[0].content == answers[2].content != answers[1].content
    assert Reservation.objects.count() == 2
    assert set(IdempotencyRecord.objects.values_list("user_id")) == set(Reservation.objects.values_list("user_id"))


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\there", "schlüssel", "\x7f"])
def test_a_senseless_key_is_refused_and_nothing_happens(api, alice, quota, key):
    answer = post(api(alice), USAGE, key=key)

    assert code(answer) == (400, "invalid_value")
    assert answer.json()["error"]["param"] == "Idempotency-Key"
    assert taken(quota) == 0


@pytest.mark.parametrize("key", ["x" * 255, " ", "'; DROP TABLE --", '"quoted"'])
def test_any_other_text_is_a_key(api, alice, quota, key):
    assert [post(api(alice), USAGE, key=key).status_code for _ in range(2)] == [201, 201]
    assert taken(quota) == 4


@pytest.mark.parametrize(
    ("body", "status"), [({"amounts": {"llm.requests": 11}}, 429), ({"amounts": {"llm.requests": -1}}, 400), ([], 400)]
)
def test_what_was_refused_cost_nothing_and_may_be_tried_again(api, alice, quota, body, status):
    """With the same key, also in other words."""
    assert post(api(alice), USAGE, body).status_code == status
    assert not IdempotencyRecord.objects.exists()
    Quota.objects.update(base_limit=100, limit=100)

    assert post(api(alice), USAGE, body).status_code == (201 if status == 429 else status)
    assert post(api(alice), USAGE, key="k2").status_code == 201


def test_while_the_first_call_runs_the_second_is_told_to_wait(api, alice, quota):
    post(api(alice), USAGE)
    IdempotencyRecord.objects.update(status="running", response_status=None, body=None)

    answer = post(api(alice), USAGE)

    assert code(answer) == (409, "idempotency_key_in_use")
    assert answer["Retry-After"] == "1"
    assert post(api(alice), USAGE, {"amounts": {"llm.requests": 1}}).status_code == 422


@pytest.mark.parametrize("status", ["running", "done"])
def test_a_key_expires(api, alice, quota, status, settings):
    settings.IDEMPOTENCY_HOURS = 2
    first = post(api(alice), USAGE)
    if status == "running":
        IdempotencyRecord.objects.update(status="running", response_status=None, body=None)
    with time_machine.travel(timezone.now() + timedelta(hours=2, seconds=1)):
        second = post(api(alice), USAGE, {"amounts": {"llm.requests": 1}})
        third = post(api(alice), USAGE, {"amounts": {"llm.requests": 1}})

    assert [first.status_code, second.status_code, third.status_code] == [201, 201, 201]
    assert third.content == second.content
    assert taken(quota) == 5


def test_of_an_answer_that_is_too_large_only_the_charge_is_known(api, alice, quota, settings):
    settings.IDEMPOTENCY_BYTES = len(post(api(alice), USAGE, key="other").content)
    assert post(api(alice), USAGE, key="other").status_code == 201
    settings.IDEMPOTENCY_BYTES -= 1
    assert post(api(alice), USAGE).status_code == 201

    answer = post(api(alice), USAGE)

    assert code(answer) == (409, "idempotency_answer_not_kept")
    assert answer["x-should-retry"] == "false"
    assert taken(quota) == 8


@pytest.mark.parametrize(("end", "body", "left"), [("confirm", FOUR, 4), ("release", {}, 0)])
def test_ending_a_reservation_again_is_answered_again(api, alice, quota, end, body, left):
    """Without a key it is a conflict, which changes nothing either."""
    made = post(api(alice), RESERVATIONS).json()["id"]
    path = f"{RESERVATIONS}/{made}/{end}"

    first, again = (post(api(alice), path, body, key="end") for _ in range(2))

    assert first.status_code == 200
    assert (again.content, again["Idempotent-Replayed"]) == (first.content, "true")
    assert code(post(api(alice), path, body, key="third")) == (409, "reservation_not_held")
    assert api(alice).post(path, body).status_code == 409
    assert taken(quota) == left


def test_where_nothing_is_metered_the_header_changes_nothing(api, alice, quota):
    answers = [post(api(alice), "/api/v1/quotas/check", {"amounts": {"llm.requests": n}}) for n in (1, 11)]

    assert [answer.json()["allowed"] for answer in answers] == [True, False]
    assert not IdempotencyRecord.objects.exists()


def test_of_8_at_once_one_is_carried_out(api, transactional_db):
    user = UserFactory()
    quota = QuotaFactory(user=user, limit=100)
    client = api(user)

    def call(_number):
        try:
            return post(client, USAGE)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(call, range(8)))

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert sum("Idempotent-Replayed" in answer for answer in answers) == 7
    assert taken(quota) == 4
