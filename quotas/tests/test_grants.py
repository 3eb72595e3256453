"""Grants: what expires first is spent first, and the books are exact whenever a pool comes, goes or changes."""

from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.utils import timezone

from accounts.exceptions import Conflict, InvalidInput
from accounts.models import AuditEvent
from quotas import services
from quotas.exceptions import QuotaExceeded
from quotas.meters import Meter
from quotas.models import Event, Grant, PlanLimit, Quota
from quotas.tests.factories import PlanFactory, QuotaFactory, SubscriptionFactory

REQUESTS = Meter("llm", "requests")
NOW = datetime(2026, 5, 10, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def clock():
    with time_machine.travel(NOW, tick=False) as clock:
        yield clock


@pytest.fixture
def quota(clock, alice):
    return QuotaFactory(user=alice, limit=100)


def use(user, amount):
    services.consume(user_id=user.pk, amounts={REQUESTS: amount})


def left(user):
    (quota,) = services.current_quotas(user_id=user.pk)
    return quota.remaining


def spent(quota):
    return list(Grant.objects.filter(quota=quota).order_by("id").values_list("spent", flat=True))


def test_a_grant_that_expires_within_the_period_is_spent_before_the_plan(clock, alice, olga, quota):
    use(alice, 30)
    services.grant(quota=quota, amount=50, by=olga, expires_at=NOW + DAY)
    use(alice, 20)
    assert left(alice) == 100

    clock.shift(2 * DAY)

    assert left(alice) == 70
    assert spent(quota) == [20]
    quota.refresh_from_db()
    assert (quota.current_usage, quota.limit, quota.granted, quota.grants_expire_at) == (50, 120, 20, None)


def test_a_grant_without_expiry_is_spent_last_and_lives_on(clock, alice, olga, quota):
    services.grant(quota=quota, amount=50, by=olga)
    use(alice, 110)

    clock.move_to(datetime(2026, 6, 1, tzinfo=UTC))

    assert left(alice) == 140
    assert spent(quota) == [10]
    use(alice, 140)
    clock.move_to(datetime(2026, 7, 1, tzinfo=UTC))
    assert left(alice) == 100
    assert spent(quota) == [50]
    assert Grant.objects.get().closed_at is not None


def test_of_several_the_first_to_expire_is_spent_first(clock, alice, olga, quota):
    for amount, days in [(10, 9), (10, 3), (10, None), (10, 60)]:
        services.grant(quota=quota, amount=amount, by=olga, expires_at=None if days is None else NOW + days * DAY)
    use(alice, 125)

    clock.shift(timedelta(minutes=1))
    services.grant(quota=quota, amount=1, by=olga)

    # 10 of the one that has 3 days, 10 of the one that has 9, the plan's 100, 5 of the one that has 60
    assert spent(quota) == [10, 10, 0, 5, 0]


def test_a_call_is_refused_what_an_expired_grant_would_have_covered(clock, alice, olga, quota):
    services.grant(quota=quota, amount=50, by=olga, expires_at=NOW + DAY)
    clock.shift(DAY)

    with pytest.raises(QuotaExceeded):
        services.reserve(user_id=alice.pk, amounts={REQUESTS: 101}, seconds=60)
    assert services.reserve(user_id=alice.pk, amounts={REQUESTS: 100}, seconds=60)


def test_a_hold_outlives_the_grant_that_let_it_in_and_the_limit_falls_as_it_ends(clock, alice, olga, quota):
    services.grant(quota=quota, amount=50, by=olga, expires_at=NOW + DAY)
    hold = services.reserve(user_id=alice.pk, amounts={REQUESTS: 140}, seconds=10**6)
    clock.shift(2 * DAY)
    assert left(alice) == 0
    quota.refresh_from_db()
    assert quota.limit == 140

    services.settle(reservation_id=hold.id, used={REQUESTS: 60})

    quota.refresh_from_db()
    assert (quota.limit, quota.current_usage, quota.held) == (100, 60, 0)


def test_a_reset_of_usage_begins_the_plans_part_anew_and_leaves_grants_as_spent_as_they_are(clock, alice, olga, quota):
    services.grant(quota=quota, amount=50, by=olga, expires_at=NOW + DAY)
    use(alice, 80)

    services.reset_usage(quota=quota, by=olga)

    assert spent(quota) == [50]
    assert left(alice) == 100


def test_a_grant_covers_what_a_lowered_limit_does_not(clock, alice, olga, quota):
    use(alice, 80)
    services.set_limit(quota=quota, limit=50, by=olga)
    services.grant(quota=quota, amount=40, by=olga)

    assert left(alice) == 10


def test_what_is_left_of_a_grant_can_be_taken_back_once(clock, alice, olga, quota):
    given = services.grant(quota=quota, amount=50, by=olga, expires_at=NOW + DAY)
    use(alice, 20)

    services.revoke_grant(grant=given, by=olga, reason="A mistake")

    assert left(alice) == 100
    assert spent(quota) == [20]
    quota.refresh_from_db()
    assert quota.grants_expire_at is None
    assert AuditEvent.objects.get(action="quota.grant_revoked").metadata == {"amount": 30, "reason": "A mistake"}
    with pytest.raises(Conflict):
        services.revoke_grant(grant=given, by=olga)


def test_a_grant_of_the_past_or_beyond_all_measure_is_refused(olga, quota):
    with pytest.raises(InvalidInput):
        services.grant(quota=quota, amount=5, by=olga, expires_at=timezone.now())
    services.grant(quota=quota, amount=10**18, by=olga)
    with pytest.raises(InvalidInput):
        services.grant(quota=quota, amount=1, by=olga)
    assert Grant.objects.count() == 1


def test_a_quota_that_never_begins_anew_tells_again_after_a_grant(alice, olga):
    quota = QuotaFactory(user=alice, limit=10, period="none", reset_date=None)
    use(alice, 10)
    services.grant(quota=quota, amount=10, by=olga)
    use(alice, 10)

    assert list(Event.objects.filter(type="quota.limit_reached").values_list("payload__limit", flat=True)) == [20, 10]


# Limits agreed with one user -------------------------------------------------------------------------------------


@pytest.fixture
def plan(alice):
    plan = PlanFactory(limits={("llm", "requests", "month"): 100})
    SubscriptionFactory(user=alice, plan=plan)
    services.provision(user_id=alice.pk)
    return plan


def test_an_agreed_limit_survives_other_plans_until_it_is_given_up(alice, olga, plan):
    quota = Quota.objects.get()
    services.set_limit(quota=quota, limit=777, by=olga)
    other = PlanFactory(limits={("llm", "requests", "month"): 5})

    services.change_plan(user_id=alice.pk, plan=other, by=olga)
    assert left(alice) == 777
    services.clear_override(quota=quota, by=olga, reason="Over")

    assert left(alice) == 5
    assert AuditEvent.objects.get(action="quota.override_cleared").metadata == {"former": 777, "reason": "Over"}
    with pytest.raises(Conflict):
        services.clear_override(quota=quota, by=olga)


def test_a_quota_beside_the_plan_is_added_and_goes_when_it_is_given_up(alice, olga, plan):
    added = services.add_quota(user_id=alice.pk, meter=Meter("llm", "tokens"), period="day", limit=7, by=olga)
    with pytest.raises(Conflict):
        services.add_quota(user_id=alice.pk, meter=Meter("llm", "tokens"), period="day", limit=7, by=olga)
    with pytest.raises(QuotaExceeded):
        services.consume(user_id=alice.pk, amounts={Meter("llm", "tokens"): 8})

    services.clear_override(quota=added, by=olga)

    services.consume(user_id=alice.pk, amounts={REQUESTS: 1, Meter("llm", "tokens"): 8})


# Limits of plans that are edited ---------------------------------------------------------------------------------


def test_an_edited_plan_reaches_all_its_subscribers_and_nobody_else(alice, bob, olga, plan, monkeypatch):
    monkeypatch.setattr(services.plans, "SUBSCRIBERS", 1)
    others = SubscriptionFactory.create_batch(2, plan=plan)
    SubscriptionFactory(user=bob, plan=PlanFactory(limits={("llm", "requests", "month"): 100}))
    for user in (bob, *(one.user for one in others)):
        services.provision(user_id=user.pk)
    use(alice, 60)
    plan.limits.update(limit=50, soft_threshold=70)
    PlanLimit.objects.create(plan=plan, resource_type="tts", unit="characters", period="day", limit=9)
    services.plan_limits_changed(plan=plan)

    assert services.apply_plan_limits(plan_id=plan.pk) == 3

    assert left_of_requests(alice) == (50, 60, 70)
    assert {left_of_requests(one.user) for one in others} == {(50, 50, 70)}
    assert left_of_requests(bob) == (100, 100, 80)
    assert Quota.objects.filter(resource_type="tts", limit=9).count() == 3
    plan.refresh_from_db()
    assert plan.limits_changed_at is None


def left_of_requests(user):
    return Quota.objects.values_list("base_limit", "limit", "soft_threshold").get(user=user, unit="requests")
