"""Crossing the soft threshold or the limit of a quota is written down once for each period, whoever crosses it."""

from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.db import transaction
from django.utils import timezone

from accounts.ids import uuid7
from accounts.merging import merge_users
from accounts.models import ApiKey
from accounts.tests.credentials import api_key
from accounts.tests.factories import UserFactory
from quotas import services
from quotas.exceptions import QuotaExceeded
from quotas.idempotency import Attempt, claimed
from quotas.meters import Meter
from quotas.models import Event, Quota
from quotas.tests.factories import PlanFactory, QuotaFactory, SubscriptionFactory
from quotas.tests.test_concurrency import in_threads, while_another_transaction_runs

REQUESTS, TOKENS = Meter("llm", "requests"), Meter("llm", "tokens")
NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
SOFT, FULL = "quota.soft_limit_reached", "quota.limit_reached"


def told(**filters):
    return sorted(Event.objects.filter(**filters).values_list("type", flat=True), reverse=True)


def use(user, amount, **options):
    services.consume(user_id=user.pk, amounts={REQUESTS: amount}, **options)


def test_each_threshold_is_told_of_once(alice):
    quota = QuotaFactory(user=alice, limit=100)

    seen = []
    for amount in (79, 1, 19, 1):
        use(alice, amount)
        seen.append(told())

    assert seen == [[], [SOFT], [SOFT], [SOFT, FULL]]
    soft = Event.objects.get(type=SOFT)
    assert (soft.user_id, soft.quota_id, soft.reset_date, soft.dispatched_at) == (
        alice.pk,
        quota.pk,
        quota.reset_date,
        None,
    )
    assert soft.payload == {
        "resource": "llm",
        "unit": "requests",
        "period": "month",
        "limit": 100,
        "usage": 80,
        "held": 0,
        "left": 20,
        "refused": False,
        "threshold": 80,
        "overage_allowed": False,
        "api_key_id": None,
    }
    assert soft.pk.version == 7
    assert abs(uuid7().int - soft.pk.int) >> 80 < 60_000


def test_one_call_may_cross_both_and_overage_goes_on_in_silence(alice):
    QuotaFactory(user=alice, limit=10, overage_allowed=True, soft_threshold=50)

    for _ in range(3):
        use(alice, 20)

    assert told() == [SOFT, FULL]


def test_only_what_crosses_is_told_of_among_several_quotas(alice):
    QuotaFactory(user=alice, limit=1000, period="month")
    today = QuotaFactory(user=alice, limit=10, period="day")

    use(alice, 9)

    assert [event.quota_id for event in Event.objects.all()] == [today.pk]


def test_the_next_period_is_told_of_again(alice):
    with time_machine.travel(NOON, tick=False) as clock:
        QuotaFactory(user=alice, limit=10, period="day")
        QuotaFactory(user=alice, limit=20, period="none")
        use(alice, 10)
        clock.move_to(NOON + timedelta(days=1))
        use(alice, 10)

    days = Event.objects.filter(payload__period="day", type=FULL).order_by("id")
    assert [event.reset_date.day for event in days] == [11, 12]
    assert [event.created_at for event in days] == [NOON, NOON + timedelta(days=1)]
    assert told(payload__period="none") == [SOFT, FULL]


def test_usage_that_was_reset_by_hand_is_not_told_of_twice(alice, olga):
    quota = QuotaFactory(user=alice, limit=10)
    use(alice, 10)
    services.reset_usage(quota=quota, by=olga)

    use(alice, 10)

    assert told() == [SOFT, FULL]


def test_a_budget_tells_its_owner_whomever_the_key_calls_for(alice, bob):
    api_key(alice)
    key = ApiKey.objects.get()
    QuotaFactory(user=bob, limit=1000)
    QuotaFactory(user=alice, api_key=key, limit=10)

    use(bob, 8, api_key_id=key.pk)

    event = Event.objects.get()
    assert (event.type, event.user_id, event.payload["api_key_id"]) == (SOFT, alice.pk, str(key.pk))


def test_what_is_settled_late_counts_and_what_is_released_does_not(alice):
    QuotaFactory(user=alice, limit=10)
    holds = [services.reserve(user_id=alice.pk, amounts={REQUESTS: 5}, seconds=1).id for _ in range(2)]
    services.release(reservation_id=holds[0])
    services.sweep_expired(now=NOON + timedelta(days=10_000))
    assert told() == []

    services.settle(reservation_id=holds[1], used={REQUESTS: 9})

    assert told() == [SOFT]


def test_a_limit_that_falls_to_what_is_used_is_reached(alice, olga):
    quota = QuotaFactory(user=alice, limit=100)
    use(alice, 50)
    services.set_limit(quota=quota, limit=60, by=olga)
    before = told()

    services.set_limit(quota=quota, limit=20, by=olga)

    assert (before, told()) == ([SOFT], [SOFT, FULL])


def test_a_plan_without_the_resource_is_no_limit_that_was_reached(alice, olga):
    SubscriptionFactory(user=alice, plan=PlanFactory(limits={("llm", "requests", "month"): 10}))
    services.provision(user_id=alice.pk)
    services.change_plan(user_id=alice.pk, plan=PlanFactory(limits={("tts", "seconds", "month"): 10}), by=olga)

    with pytest.raises(QuotaExceeded):
        use(alice, 1)

    assert told() == ["subscription.changed"]


def test_what_is_rolled_back_was_not_crossed(alice):
    QuotaFactory(user=alice, limit=10)

    with transaction.atomic():
        use(alice, 10)
        transaction.set_rollback(True)

    assert told() == []


def test_amounts_at_the_end_of_64_bits(alice):
    most = 2**63 - 1
    QuotaFactory(user=alice, limit=most, current_usage=most - 10)
    QuotaFactory(user=alice, limit=most, unit="tokens")

    services.consume(user_id=alice.pk, amounts={REQUESTS: 10, TOKENS: most})

    assert told() == [SOFT, FULL, FULL]


# At once -------------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_16_threads_that_cross_at_once_are_told_of_once():
    user = UserFactory()
    QuotaFactory(user=user, limit=100)

    def call(number):
        try:
            use(user, 9)
        except QuotaExceeded:
            return 0
        return 9

    used = sum(in_threads(call, 16))

    assert (used, told()) == (99, [SOFT, FULL])


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("first", ["the call", "the merge"])
def test_a_call_that_crosses_while_its_user_is_merged(first, caplog):
    """Neither waits for what the other one has locked, and the event goes where the usage goes."""
    source, target, olga = UserFactory(), UserFactory(), UserFactory(is_staff=True, is_superuser=True)
    QuotaFactory(user=source, limit=10)
    hold = services.reserve(user_id=source.pk, amounts={REQUESTS: 10}, seconds=60).id

    def call():
        services.settle(reservation_id=hold, used={REQUESTS: 10})

    def merge():
        merge_users(source_id=source.pk, target_id=target.pk, by=olga)

    while_another_transaction_runs(*((call, merge) if first == "the call" else (merge, call)))

    assert told(user=target) == [SOFT, FULL]
    assert told(user=source) == []
    assert "deadlock" not in caplog.text


# Refused -------------------------------------------------------------------------------------------------------------


def plainly(user):
    services.reserve(user_id=user.pk, amounts={REQUESTS: 20}, seconds=60)


def with_an_idempotency_key(user):
    with claimed(user_id=user.pk, attempt=Attempt("key", "POST /", "a" * 64)):
        plainly(user)


def with_other_rows(user):
    with services.holding():
        UserFactory()
        plainly(user)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("call", [plainly, with_an_idempotency_key, with_other_rows, lambda user: use(user, 20)])
def test_a_refusal_with_little_left_says_that_the_limit_is_reached(call):
    """Also where the refusal undoes the transaction that it happens in, and once however often it happens."""
    user = UserFactory()
    QuotaFactory(user=user, limit=100)
    QuotaFactory(user=user, limit=1000, period="day")
    use(user, 96)
    services.reserve(user_id=user.pk, amounts={REQUESTS: 1}, seconds=60)
    begun = timezone.now()

    for _ in range(3):
        with pytest.raises(QuotaExceeded):
            call(user)

    event = Event.objects.get(type=FULL)
    assert (event.user_id, event.payload["period"], event.payload["refused"]) == (user.pk, "month", True)
    assert [event.payload[name] for name in ("usage", "held", "limit", "left")] == [96, 1, 100, 3]
    assert begun < event.created_at < timezone.now()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("used", "held"), [(70, 0), (95, 0), (70, 30)])
def test_a_call_that_is_simply_too_large_reaches_nothing_until_all_is_used(used, held):
    """Nor does one that what is held leaves no room for: it may come back."""
    user = UserFactory()
    QuotaFactory(user=user, limit=100, soft_threshold=100)
    use(user, used)
    Quota.objects.update(held=held)

    with pytest.raises(QuotaExceeded):
        use(user, 31)

    assert told() == []
    Quota.objects.update(held=0)
    use(user, 100 - used)
    assert told() == [SOFT, FULL]
