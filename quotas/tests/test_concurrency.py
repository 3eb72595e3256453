"""N concurrent holds against a limit of L admit exactly L: with real threads and real transactions."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection

from accounts.tests.factories import UserFactory
from quotas import services
from quotas.exceptions import QuotaExceeded
from quotas.meters import Meter
from quotas.models import Quota, Reservation
from quotas.tests.factories import QuotaFactory

THREADS, LIMIT = 64, 50
REQUESTS = Meter("llm", "requests")


def in_threads(work, count=THREADS):
    def run(number):
        try:
            return work(number)
        finally:
            connection.close()

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(run, range(count)))


@pytest.fixture
def quota(transactional_db):
    return QuotaFactory(user=UserFactory(), unit="requests", limit=LIMIT)


def test_64_threads_against_a_limit_of_50_admit_exactly_50(quota):
    def call(number):
        try:
            hold = services.reserve(user_id=quota.user_id, amounts={REQUESTS: 1}, seconds=60)
        except QuotaExceeded as refusal:
            return refusal.code
        services.settle(reservation_id=hold.id, used={REQUESTS: 1})
        return "admitted"

    results = in_threads(call)

    quota.refresh_from_db()
    assert results.count("admitted") == LIMIT
    assert results.count("insufficient_quota") == THREADS - LIMIT
    assert quota.current_usage + quota.held == LIMIT
    assert quota.held == 0


def test_holds_over_several_quotas_in_any_order_do_not_deadlock(quota):
    tokens = QuotaFactory(user=quota.user, unit="tokens", limit=10_000)
    daily = QuotaFactory(user=quota.user, unit="tokens", period="day", limit=10_000)
    meters = [REQUESTS, Meter("llm", "tokens")]

    def call(number):
        amounts = dict.fromkeys(meters if number % 2 else reversed(meters), 1 + number % 3)
        try:
            hold = services.reserve(user_id=quota.user_id, amounts=amounts, seconds=60)
        except QuotaExceeded:
            return 0
        services.release(reservation_id=hold.id) if number % 5 == 0 else services.settle(
            reservation_id=hold.id, used=amounts
        )
        return 1

    admitted = sum(in_threads(call, 32))

    assert admitted == Reservation.objects.count()
    assert set(Quota.objects.values_list("held", flat=True)) == {0}
    tokens.refresh_from_db()
    daily.refresh_from_db()
    assert tokens.current_usage == daily.current_usage


def test_one_idempotency_key_from_many_threads_is_one_hold(quota):
    ids = in_threads(
        lambda _: services.reserve(user_id=quota.user_id, amounts={REQUESTS: 1}, seconds=60, idempotency_key="same").id,
        16,
    )

    quota.refresh_from_db()
    assert len(set(ids)) == 1
    assert quota.held == 1
