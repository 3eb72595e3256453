"""What operators do to quotas and plans, and how a user comes by both."""

import pytest

from accounts.exceptions import InvalidInput
from accounts.models import AuditEvent
from quotas import services
from quotas.exceptions import QuotaExceeded
from quotas.meters import Meter
from quotas.models import Plan, PlanLimit, Quota, Subscription
from quotas.tests.factories import PlanFactory, QuotaFactory, SubscriptionFactory

REQUESTS = Meter("llm", "requests")
MONTHLY = ("llm", "requests", "month")


@pytest.fixture
def quota(alice):
    return QuotaFactory(user=alice, limit=10)


def reserve(user, amount):
    return services.reserve(user_id=user.pk, amounts={REQUESTS: amount}, seconds=60)


def limits(quota):
    quota.refresh_from_db()
    return quota.base_limit, quota.limit


def test_a_raised_limit_counts_at_once(alice, olga, quota):
    services.set_limit(quota=quota, limit=25, by=olga, reason="asked nicely")

    assert limits(quota) == (25, 25)
    assert reserve(alice, 25)
    event = AuditEvent.objects.get(action="quota.limit_changed")
    assert event.actor_id == olga.pk
    assert event.target_id == str(quota.pk)
    assert event.metadata == {"former": 10, "limit": 25, "reason": "asked nicely"}


def test_a_limit_below_what_is_used_admits_nothing_more_and_refuses_nothing_that_runs(alice, olga, quota):
    services.consume(user_id=alice.pk, amounts={REQUESTS: 4})
    hold = reserve(alice, 3)

    services.set_limit(quota=quota, limit=5, by=olga)

    assert limits(quota) == (5, 7)
    with pytest.raises(QuotaExceeded):
        reserve(alice, 1)
    services.settle(reservation_id=hold.id, used={REQUESTS: 9})
    assert limits(quota) == (5, 7)
    assert (quota.current_usage, quota.held) == (7, 0)


def test_a_limit_of_nothing_is_a_limit(alice, olga, quota):
    services.set_limit(quota=quota, limit=0, by=olga)

    with pytest.raises(QuotaExceeded):
        reserve(alice, 1)


def test_a_negative_limit_is_refused(olga, quota):
    with pytest.raises(InvalidInput):
        services.set_limit(quota=quota, limit=-1, by=olga)
    assert limits(quota) == (10, 10)


def test_a_grant_adds_to_the_limit_at_once(alice, olga, quota):
    reserve(alice, 10)

    services.grant(quota=quota, amount=5, by=olga, reason="apology")

    assert limits(quota) == (10, 15)
    assert reserve(alice, 5)
    event = AuditEvent.objects.get(action="quota.granted")
    assert event.metadata == {"amount": 5, "expires_at": None, "reason": "apology"}


@pytest.mark.parametrize("amount", [0, -5, 10**18 + 1])
def test_a_grant_must_give_something(olga, quota, amount):
    with pytest.raises(InvalidInput):
        services.grant(quota=quota, amount=amount, by=olga)
    assert limits(quota) == (10, 10)


def test_forgetting_usage_leaves_holds_and_grants(alice, olga, quota):
    services.consume(user_id=alice.pk, amounts={REQUESTS: 6})
    reserve(alice, 3)
    services.grant(quota=quota, amount=5, by=olga)
    quota.refresh_from_db()

    services.reset_usage(quota=quota, by=olga)

    assert limits(quota) == (10, 15)
    assert (quota.current_usage, quota.held) == (0, 3)
    assert AuditEvent.objects.get(action="quota.usage_reset").metadata["former"] == 6


# Plans -----------------------------------------------------------------------------------------------------------


def test_the_seeded_plans(db):
    assert list(Plan.objects.values_list("slug", "is_default")) == [("free", True), ("pro", False), ("team", False)]
    for plan in Plan.objects.all():
        assert plan.limits.count() == 5


def test_a_new_user_is_on_the_default_plan(alice):
    quotas = services.current_quotas(user_id=alice.pk)

    assert Subscription.objects.get(user=alice).plan.is_default
    assert {(quota.resource_type, quota.unit, quota.period, quota.limit) for quota in quotas} == set(
        PlanLimit.objects.filter(plan__slug="free").values_list("resource_type", "unit", "period", "limit")
    )


def test_providing_again_changes_nothing(alice):
    services.provision(user_id=alice.pk)
    services.consume(user_id=alice.pk, amounts={REQUESTS: 3})
    before = list(Quota.objects.order_by("id").values())

    services.provision(user_id=alice.pk)

    assert list(Quota.objects.order_by("id").values()) == before
    assert Subscription.objects.count() == 1


def test_a_limit_that_the_plan_gains_reaches_its_subscribers(alice):
    plan = PlanFactory(limits={MONTHLY: 10})
    SubscriptionFactory(user=alice, plan=plan)
    reserve(alice, 1)
    PlanLimit.objects.create(plan=plan, resource_type="tts", unit="characters", period="month", limit=7)

    services.consume(user_id=alice.pk, amounts={Meter("tts", "characters"): 7})

    assert Quota.objects.get(resource_type="tts").current_usage == 7


def test_a_canceled_subscription_does_not_count(alice):
    SubscriptionFactory(user=alice, plan=Plan.objects.get(slug="team"), status="canceled")

    services.provision(user_id=alice.pk)

    assert Subscription.objects.exclude(status="canceled").get().plan.slug == "free"


def test_without_a_default_plan_nothing_is_provided_and_nothing_breaks(alice):
    Plan.objects.update(is_default=False)

    with pytest.raises(QuotaExceeded):
        reserve(alice, 1)
    assert services.current_quotas(user_id=alice.pk) == []


def test_another_plan_moves_the_limits_and_leaves_the_usage(alice, olga):
    services.consume(user_id=alice.pk, amounts={REQUESTS: 150})

    services.change_plan(user_id=alice.pk, plan=Plan.objects.get(slug="pro"), by=olga)

    quota = Quota.objects.get(user=alice, unit="requests")
    assert (quota.base_limit, quota.limit, quota.current_usage) == (5000, 5000, 150)
    assert Subscription.objects.get(user=alice).plan.slug == "pro"
    assert AuditEvent.objects.get(action="plan.changed").metadata["plan"] == "pro"


def test_a_smaller_plan_never_leaves_a_quota_overspent(alice, olga):
    services.change_plan(user_id=alice.pk, plan=Plan.objects.get(slug="pro"), by=olga)
    services.consume(user_id=alice.pk, amounts={REQUESTS: 700})
    reserve(alice, 50)

    services.change_plan(user_id=alice.pk, plan=Plan.objects.get(slug="free"), by=olga)

    quota = Quota.objects.get(user=alice, unit="requests")
    assert (quota.base_limit, quota.limit) == (200, 750)
    with pytest.raises(QuotaExceeded):
        reserve(alice, 1)


def test_an_open_grant_survives_a_change_of_plan(alice, olga):
    quota = next(quota for quota in services.current_quotas(user_id=alice.pk) if quota.unit == "requests")
    services.grant(quota=quota, amount=30, by=olga)

    services.change_plan(user_id=alice.pk, plan=Plan.objects.get(slug="pro"), by=olga)

    assert limits(quota) == (5000, 5030)


def test_a_resource_that_the_new_plan_leaves_out_is_closed_and_one_that_it_adds_is_opened(alice, olga):
    services.provision(user_id=alice.pk)
    services.consume(user_id=alice.pk, amounts={Meter("tts", "characters"): 3})
    plan = PlanFactory(limits={("llm", "cost", "day"): 5})

    services.change_plan(user_id=alice.pk, plan=plan, by=olga)

    speech = Quota.objects.get(resource_type="tts")
    assert (speech.base_limit, speech.limit, speech.current_usage) == (0, 3, 3)
    assert Quota.objects.get(resource_type="llm").limit == 5
    with pytest.raises(QuotaExceeded):
        services.consume(user_id=alice.pk, amounts={Meter("tts", "characters"): 1})


def test_a_plan_that_measures_in_another_way_is_not_held_up_by_the_former_ones_quotas(alice, olga):
    services.provision(user_id=alice.pk)
    hold = reserve(alice, 3)

    services.change_plan(user_id=alice.pk, plan=PlanFactory(limits={MONTHLY: 10}), by=olga)

    services.consume(user_id=alice.pk, amounts={REQUESTS: 2, Meter("llm", "tokens"): 10**9})
    services.settle(reservation_id=hold.id, used={REQUESTS: 3})
    quota = Quota.objects.get(user=alice, resource_type="llm")
    assert (quota.period, quota.current_usage, quota.held) == ("month", 2, 0)


def test_overage_comes_and_goes_with_the_plan(alice, olga):
    generous = PlanFactory(limits={MONTHLY: 1})
    generous.limits.update(overage_allowed=True, soft_threshold=50)
    services.change_plan(user_id=alice.pk, plan=generous, by=olga)
    services.consume(user_id=alice.pk, amounts={REQUESTS: 8})

    strict = PlanFactory(limits={MONTHLY: 2})
    services.change_plan(user_id=alice.pk, plan=strict, by=olga)

    quota = Quota.objects.get(user=alice, unit="requests", period="month")
    assert (quota.overage_allowed, quota.limit, quota.current_usage) == (False, 8, 8)


def test_there_is_always_one_default_plan(olga):
    services.set_default_plan(plan=Plan.objects.get(slug="pro"), by=olga)

    assert Plan.objects.get(is_default=True).slug == "pro"
