"""N concurrent holds against a limit of L admit exactly L: with real threads and real transactions."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from accounts.models import ApiKey
from accounts.tests.credentials import api_key
from accounts.tests.factories import UserFactory
from quotas import services
from quotas.exceptions import QuotaExceeded, ReservationNotHeld
from quotas.meters import Meter
from quotas.models import Plan, Quota, Reservation, Subscription
from quotas.services.budgets import Budget, set_key_budgets
from quotas.tests.factories import QuotaFactory

THREADS, LIMIT = 64, 50
REQUESTS = Meter("llm", "requests")
TOKENS = Meter("llm", "tokens")


def in_threads(work, count=THREADS):
    def run(number):
        try:
            return work(number)
        finally:
            connection.close()

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(run, range(count)))


def reserve(quota, amount=1, **options):
    return services.reserve(
        **{"user_id": quota.user_id, "amounts": {Meter(quota.resource_type, quota.unit): amount}, "seconds": 60}
        | options
    )


@pytest.fixture
def quota(transactional_db):
    return QuotaFactory(user=UserFactory(), unit="requests", limit=LIMIT)


@pytest.fixture
def operator(transactional_db):
    return UserFactory()


def test_64_threads_against_a_limit_of_50_admit_exactly_50(quota):
    def call(number):
        try:
            hold = reserve(quota)
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


@pytest.fixture
def budget(quota):
    """Of a key of the quota's user; the quota itself is larger."""
    Quota.objects.update(limit=10 * LIMIT, base_limit=10 * LIMIT)
    return QuotaFactory(user=quota.user, api_key=key_of(quota.user), unit="requests", limit=LIMIT)


def key_of(user):
    api_key(user)
    return ApiKey.objects.get(user=user)


def test_64_threads_against_a_budget_of_50_admit_exactly_50(quota, budget):
    def call(number):
        try:
            hold = reserve(quota, api_key_id=budget.api_key_id)
        except QuotaExceeded as refusal:
            return refusal.code
        services.settle(reservation_id=hold.id, used={REQUESTS: 1})
        return "admitted"

    results = in_threads(call)

    quota.refresh_from_db()
    budget.refresh_from_db()
    assert results.count("admitted") == LIMIT
    assert results.count("insufficient_quota_of_key") == THREADS - LIMIT
    assert (quota.current_usage, quota.held) == (budget.current_usage, budget.held) == (LIMIT, 0)


def test_one_key_that_calls_for_many_people_stays_within_its_budget(quota, budget):
    people = [QuotaFactory(unit="requests", limit=1000) for _ in range(8)]

    def call(number):
        try:
            hold = reserve(people[number % 8], api_key_id=budget.api_key_id)
        except QuotaExceeded:
            return 0
        if number % 3:
            services.settle(reservation_id=hold.id, used={REQUESTS: 1})
        return 1

    admitted = sum(in_threads(call))

    budget.refresh_from_db()
    assert admitted == budget.current_usage + budget.held == LIMIT
    for theirs in people:
        theirs.refresh_from_db()
    assert sum(theirs.current_usage for theirs in people) == budget.current_usage
    assert sum(theirs.held for theirs in people) == budget.held


def test_budgets_that_are_set_while_calls_run_break_nothing(quota, budget):
    key_id = budget.api_key_id
    lists = [
        [],
        [Budget(REQUESTS, "month", LIMIT)],
        [Budget(REQUESTS, "month", 5), Budget(REQUESTS, "day", 7)],
        [Budget(TOKENS, "day", 3), Budget(REQUESTS, "day", 100)],
    ]

    def run(number):
        if number % 3 == 0:
            wanted = lists[number // 3 % len(lists)]
            set_key_budgets(key_id=key_id, user_id=quota.user_id, budgets=wanted, by=quota.user)
            return 0
        try:
            hold = reserve(quota, 2, api_key_id=key_id)
        except QuotaExceeded:
            return 0
        services.settle(reservation_id=hold.id, used={REQUESTS: 3})
        return 1

    admitted = sum(in_threads(run, 48))

    quota.refresh_from_db()
    assert set(Quota.objects.values_list("held", flat=True)) == {0}
    assert quota.current_usage == 3 * admitted > 0


def test_holds_over_several_quotas_in_any_order_do_not_deadlock(quota):
    tokens = QuotaFactory(user=quota.user, unit="tokens", limit=10_000)
    daily = QuotaFactory(user=quota.user, unit="tokens", period="day", limit=10_000)
    meters = [REQUESTS, TOKENS]

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


def test_a_hold_is_settled_or_swept_and_charged_once(quota):
    """Calls that end in the moment in which they expire, while four sweepers run."""
    tokens = QuotaFactory(user=quota.user, unit="tokens", limit=10_000)
    holds = [reserve(tokens, 10, seconds=0) for _ in range(24)]

    def work(number):
        if number < 4:
            return services.sweep_expired(now=timezone.now() + timedelta(seconds=1))
        try:
            services.settle(reservation_id=holds[number - 4].id, used={TOKENS: 7})
        except ReservationNotHeld:
            return "lost"
        return "settled"

    results = in_threads(work, 28)

    tokens.refresh_from_db()
    assert results[4:] == ["settled"] * 24
    assert (tokens.current_usage, tokens.held) == (24 * 7, 0)
    assert set(Reservation.objects.values_list("status", flat=True)) == {"confirmed"}


def test_settling_and_releasing_one_hold_from_many_threads_ends_it_once(quota):
    hold = reserve(quota, 5)

    def end(number):
        try:
            if number % 2:
                services.settle(reservation_id=hold.id, used={REQUESTS: 5})
            else:
                services.release(reservation_id=hold.id)
        except ReservationNotHeld:
            return 0
        return 1

    assert sum(in_threads(end, 16)) == 1
    quota.refresh_from_db()
    assert quota.held == 0
    assert quota.current_usage == (5 if Reservation.objects.get().status == "confirmed" else 0)


def test_the_first_calls_of_a_new_user_make_one_subscription_and_each_quota_once(transactional_db):
    user = UserFactory()

    in_threads(lambda _: services.reserve(user_id=user.pk, amounts={REQUESTS: 1}, seconds=60), 16)

    assert Subscription.objects.filter(user=user).count() == 1
    assert Quota.objects.filter(user=user).count() == 5
    assert Quota.objects.get(user=user, unit="requests").held == 16


def test_a_period_that_ends_under_load_begins_once(quota):
    services.consume(user_id=quota.user_id, amounts={REQUESTS: LIMIT})
    Quota.objects.update(reset_date=datetime(2020, 1, 1, tzinfo=UTC))

    def call(number):
        try:
            reserve(quota)
        except QuotaExceeded:
            return 0
        return 1

    admitted = sum(in_threads(call))

    quota.refresh_from_db()
    assert admitted == LIMIT
    assert (quota.current_usage, quota.held) == (0, LIMIT)


def test_operators_at_work_while_calls_run_break_nothing(quota, operator):
    pro, free = Plan.objects.get(slug="pro"), Plan.objects.get(slug="free")
    services.provision(user_id=quota.user_id)
    work = (
        lambda: services.grant(quota=quota, amount=1, by=operator),
        lambda: services.set_limit(quota=quota, limit=20, by=operator),
        lambda: services.reset_usage(quota=quota, by=operator),
        lambda: services.change_plan(user_id=quota.user_id, plan=pro, by=operator),
        lambda: services.change_plan(user_id=quota.user_id, plan=free, by=operator),
    )

    def run(number):
        if number % 6 < len(work):
            return work[number % 6]()
        try:
            hold = reserve(quota, 2)
            services.settle(reservation_id=hold.id, used={REQUESTS: 3})
        except QuotaExceeded:
            pass
        return None

    in_threads(run, 48)

    assert set(Quota.objects.values_list("held", flat=True)) == {0}


# PostgreSQL checks a row's constraints on the version that the statement's snapshot saw, before it follows the row to
# its latest one. What fits the latest must not be refused for what is not true any more.


def while_another_transaction_runs(other, work):
    """Begin `other`, let `work` run in a thread into the lock that it holds, and only then commit."""
    with ThreadPoolExecutor(1) as thread:
        with transaction.atomic():
            other()
            running = thread.submit(in_threads, lambda _: work(), 1)
            wait_until_somebody_waits()
        return running.result()[0]


def wait_until_somebody_waits():
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with connection.cursor() as cursor:
            # Within a transaction, PostgreSQL shows the sessions that there were when it was asked first.
            cursor.execute("SELECT pg_stat_clear_snapshot()")
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity "
                "WHERE datname = current_database() AND wait_event_type = 'Lock' AND pid <> pg_backend_pid()"
            )
            if cursor.fetchone()[0]:
                return
        time.sleep(0.005)
    pytest.fail("nobody ran into the lock")


@pytest.fixture
def full(quota):
    """Used and held up to the limit; answers the hold."""
    services.consume(user_id=quota.user_id, amounts={REQUESTS: 30})
    return reserve(quota, 20)


MAKE_ROOM = {
    "a release": lambda quota, hold, by: services.release(reservation_id=hold.id),
    "a smaller settlement": lambda quota, hold, by: services.settle(reservation_id=hold.id, used={REQUESTS: 0}),
    "forgotten usage": lambda quota, hold, by: services.reset_usage(quota=quota, by=by),
    "a grant": lambda quota, hold, by: services.grant(quota=quota, amount=20, by=by),
    "a higher limit": lambda quota, hold, by: services.set_limit(quota=quota, limit=70, by=by),
    "overage": lambda quota, hold, by: Quota.objects.update(overage_allowed=True),
}


@pytest.mark.parametrize("makes_room", MAKE_ROOM)
def test_a_hold_fits_into_room_that_is_made_while_it_waits(quota, full, operator, makes_room):
    while_another_transaction_runs(lambda: MAKE_ROOM[makes_room](quota, full, operator), lambda: reserve(quota, 20))

    quota.refresh_from_db()
    assert quota.held == (20 if full_has_ended(full) else 40)


@pytest.mark.parametrize("makes_room", ["forgotten usage", "a grant", "a higher limit", "overage"])
def test_an_overrun_is_charged_into_room_that_is_made_while_it_waits(quota, full, operator, makes_room):
    while_another_transaction_runs(
        lambda: MAKE_ROOM[makes_room](quota, full, operator),
        lambda: services.settle(reservation_id=full.id, used={REQUESTS: 40}),
    )

    quota.refresh_from_db()
    assert quota.held == 0
    assert quota.current_usage == (40 if makes_room == "forgotten usage" else 70)


@pytest.mark.parametrize("makes_room", MAKE_ROOM)
def test_a_late_charge_goes_into_room_that_is_made_while_it_waits(quota, full, operator, makes_room):
    late = Reservation.objects.create(
        user=quota.user,
        amounts={"llm.requests": 20},
        holds={str(quota.pk): 20},
        status=Reservation.Status.EXPIRED,
        expires_at=timezone.now(),
        settled_at=timezone.now(),
    )

    while_another_transaction_runs(
        lambda: MAKE_ROOM[makes_room](quota, full, operator),
        lambda: services.settle(reservation_id=late.id, used={REQUESTS: 20}),
    )

    quota.refresh_from_db()
    assert quota.current_usage == (20 if makes_room == "forgotten usage" else 50)


@pytest.mark.parametrize("takes_room", ["a hold", "a lower limit"])
def test_a_hold_does_not_fit_into_room_that_is_taken_while_it_waits(quota, operator, takes_room):
    take = {
        "a hold": lambda: reserve(quota, 40),
        "a lower limit": lambda: services.set_limit(quota=quota, limit=10, by=operator),
    }

    with pytest.raises(QuotaExceeded) as refusal:
        while_another_transaction_runs(take[takes_room], lambda: reserve(quota, 20))

    assert refusal.value.remaining == 10


def full_has_ended(hold):
    return Reservation.objects.get(pk=hold.id).status != "held"
