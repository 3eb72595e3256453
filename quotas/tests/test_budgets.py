"""Budgets of API keys: they bound one key, for whomever it calls, and let nothing in."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import time_machine
from django.utils import timezone

from accounts.exceptions import InvalidInput, NotFound
from accounts.models import ApiKey, AuditEvent
from accounts.tests.credentials import api_key
from quotas import services
from quotas.exceptions import KeyBudgetExceeded, QuotaExceeded
from quotas.meters import Meter
from quotas.models import Plan, Quota, Reservation
from quotas.services.budgets import MOST_BUDGETS, MOST_LIMIT, Budget, current_budgets, own_key_budgets, set_key_budgets
from quotas.tests.factories import QuotaFactory, SubscriptionFactory

REQUESTS = Meter("llm", "requests")
TOKENS = Meter("llm", "tokens")
COST = Meter("llm", "cost")
SPEECH = Meter("tts", "characters")

pytestmark = pytest.mark.django_db


@pytest.fixture
def key(alice):
    api_key(alice)
    return ApiKey.objects.get(user=alice)


@pytest.fixture
def quota(alice):
    """Of alice, in a plan that has nothing else."""
    SubscriptionFactory(user=alice)
    return QuotaFactory(user=alice, unit="requests", limit=100)


def budget_of(key, meter=REQUESTS, limit=10, **fields):
    resource, unit = meter
    return QuotaFactory(user=key.user, api_key=key, resource_type=resource, unit=unit, limit=limit, **fields)


def reserve(user, key, amounts, **options):
    return services.reserve(user_id=user.pk, api_key_id=key.pk, amounts=amounts, seconds=60, **options)


def state(quota):
    quota.refresh_from_db()
    return quota.current_usage, quota.held


def of_key(key):
    """The limits of a key's budgets, by meter and period."""
    return {str(row): row.base_limit for row in Quota.objects.of_key(key.pk)}


# Holding ---------------------------------------------------------------------------------------------------------


def test_a_call_with_the_key_is_held_on_the_quota_and_on_the_budget(alice, key, quota):
    budget = budget_of(key)

    hold = reserve(alice, key, {REQUESTS: 3})

    assert [state(quota), state(budget)] == [(0, 3), (0, 3)]
    assert Reservation.objects.get().holds == {str(quota.pk): 3, str(budget.pk): 3}
    services.settle(reservation_id=hold.id, used={REQUESTS: 2})
    assert [state(quota), state(budget)] == [(2, 0), (2, 0)]


def test_calls_without_the_key_or_with_another_are_none_of_its_business(alice, key, quota):
    budget = budget_of(key, limit=1)
    api_key(alice)
    other = ApiKey.objects.exclude(pk=key.pk).get()

    services.reserve(user_id=alice.pk, amounts={REQUESTS: 5}, seconds=60)
    reserve(alice, other, {REQUESTS: 5})

    assert [state(quota), state(budget)] == [(0, 10), (0, 0)]


def test_what_does_not_fit_the_budget_is_held_nowhere_and_the_refusal_says_so(alice, key, quota):
    with time_machine.travel(datetime(2026, 3, 10, tzinfo=UTC), tick=False):
        Quota.objects.update(reset_date=datetime(2026, 4, 1, tzinfo=UTC))
        budget = budget_of(key, limit=10)
        with pytest.raises(KeyBudgetExceeded) as refusal:
            reserve(alice, key, {REQUESTS: 11})

    assert refusal.value.code == "insufficient_quota_of_key"
    assert str(refusal.value) == "This call needs 11 llm.requests, more than the whole budget of this API key of 10."
    assert [state(quota), state(budget)] == [(0, 0), (0, 0)]
    assert not Reservation.objects.exists()


def test_what_does_not_fit_the_quota_is_not_held_on_the_budget(alice, key, quota):
    budget = budget_of(key, limit=1000)

    with pytest.raises(QuotaExceeded) as refusal:
        reserve(alice, key, {REQUESTS: 101})

    assert refusal.value.code == "insufficient_quota"
    assert state(budget) == (0, 0)


def test_where_neither_fits_the_users_own_quota_is_named(alice, key):
    budget_of(key, limit=5)
    QuotaFactory(user=alice, limit=6)

    with pytest.raises(QuotaExceeded) as refusal:
        reserve(alice, key, {REQUESTS: 7})

    assert (refusal.value.code, refusal.value.limit) == ("insufficient_quota", 6)


def test_a_budget_counts_a_meter_that_its_owner_is_not_limited_in(alice, key, quota):
    budget = budget_of(key, COST, limit=100)

    reserve(alice, key, {REQUESTS: 1, COST: 60})
    with pytest.raises(KeyBudgetExceeded):
        reserve(alice, key, {REQUESTS: 1, COST: 60})

    assert [state(quota), state(budget)] == [(0, 1), (0, 60)]


@pytest.mark.parametrize("amounts", [{SPEECH: 1}, {REQUESTS: 1, SPEECH: 1}, {SPEECH: 0}])
def test_a_budget_alone_lets_no_resource_in(alice, key, quota, amounts):
    budget = budget_of(key, SPEECH, limit=1000)

    verdict = services.check(user_id=alice.pk, api_key_id=key.pk, amounts=amounts)
    with pytest.raises(QuotaExceeded) as refusal:
        reserve(alice, key, amounts)

    assert refusal.value.meter is None
    assert "plan does not include" in str(refusal.value) == str(verdict.refusal)
    assert [state(quota), state(budget)] == [(0, 0), (0, 0)]


def test_a_budget_does_not_keep_a_new_user_from_the_quotas_of_the_default_plan(alice, key):
    budget = budget_of(key)

    reserve(alice, key, {REQUESTS: 1})

    assert state(budget) == (0, 1)
    assert Quota.objects.of_user(alice.pk).count() == 5


def test_consuming_is_charged_to_both_or_to_none(alice, key, quota):
    budget = budget_of(key)

    services.consume(user_id=alice.pk, api_key_id=key.pk, amounts={REQUESTS: 8})
    with pytest.raises(KeyBudgetExceeded):
        services.consume(user_id=alice.pk, api_key_id=key.pk, amounts={REQUESTS: 3})

    assert [state(quota), state(budget)] == [(8, 0), (8, 0)]


@pytest.mark.parametrize("amount", [0, 10, 11, 101])
def test_check_says_what_reserve_does(alice, key, quota, amount):
    budget = budget_of(key, limit=10)

    verdict = services.check(user_id=alice.pk, api_key_id=key.pk, amounts={REQUESTS: amount})

    assert (verdict.quotas, verdict.budgets) == ([quota], [budget])
    if verdict.refusal is None:
        assert reserve(alice, key, {REQUESTS: amount})
    else:
        with pytest.raises(type(verdict.refusal)) as refusal:
            reserve(alice, key, {REQUESTS: amount})
        assert str(refusal.value) == str(verdict.refusal)


# For somebody else -----------------------------------------------------------------------------------------------


def test_a_key_that_acts_for_another_is_held_to_its_own_budget_and_the_others_quota(alice, bob, key, quota):
    budget, his = budget_of(key, limit=5), QuotaFactory(user=bob, limit=100)

    hold = reserve(bob, key, {REQUESTS: 4})
    with pytest.raises(KeyBudgetExceeded):
        reserve(bob, key, {REQUESTS: 2})
    with pytest.raises(KeyBudgetExceeded):
        reserve(alice, key, {REQUESTS: 2})

    assert [state(quota), state(his), state(budget)] == [(0, 0), (0, 4), (0, 4)]
    services.settle(reservation_id=hold.id, used={REQUESTS: 1})
    assert [state(quota), state(his), state(budget)] == [(0, 0), (1, 0), (1, 0)]


def test_the_budgets_of_the_keys_of_the_person_called_for_do_not_count(bob, key, quota):
    QuotaFactory(user=bob, limit=100)
    api_key(bob)
    his = budget_of(ApiKey.objects.get(user=bob), limit=1)

    reserve(bob, key, {REQUESTS: 4})

    assert state(his) == (0, 0)


def test_a_budget_of_a_key_that_acts_for_another_begins_its_period_anew(bob, key):
    QuotaFactory(user=bob, limit=100)
    budget = budget_of(key, limit=5, current_usage=5, reset_date=datetime(2020, 1, 1, tzinfo=UTC))

    reserve(bob, key, {REQUESTS: 4})

    assert state(budget) == (0, 4)
    assert budget.reset_date > timezone.now()


# Ending ----------------------------------------------------------------------------------------------------------


def test_an_overrun_is_charged_to_each_as_far_as_it_has_room(alice, key, quota):
    budget = budget_of(key, limit=10)
    hold = reserve(alice, key, {REQUESTS: 2})

    services.settle(reservation_id=hold.id, used={REQUESTS: 40})

    assert [state(quota), state(budget)] == [(40, 0), (10, 0)]
    assert Reservation.objects.get().charged == {str(quota.pk): 40, str(budget.pk): 10}


def test_a_late_charge_goes_to_both(alice, key, quota):
    budget = budget_of(key, limit=10)
    hold = reserve(alice, key, {REQUESTS: 2})
    services.sweep_expired(now=hold.expires_at)
    assert [state(quota), state(budget)] == [(0, 0), (0, 0)]

    services.settle(reservation_id=hold.id, used={REQUESTS: 12})

    assert [state(quota), state(budget)] == [(12, 0), (10, 0)]


def test_a_new_period_begins_for_budgets_as_for_quotas(alice, key, quota):
    budget = budget_of(key, period="day", limit=10, current_usage=9)
    reserve(alice, key, {REQUESTS: 1})
    tomorrow = timezone.now() + timedelta(days=1)

    with time_machine.travel(tomorrow, tick=False):
        services.reset_due()

    assert state(budget) == (0, 1)
    assert budget.reset_date > tomorrow


def test_a_key_that_is_deleted_takes_its_budgets_along_and_running_calls_still_end(alice, key, quota):
    budget_of(key)
    first, second = reserve(alice, key, {REQUESTS: 2}), reserve(alice, key, {REQUESTS: 3})

    key.delete()

    services.settle(reservation_id=first.id, used={REQUESTS: 2})
    services.release(reservation_id=second.id)
    assert state(quota) == (2, 0)
    assert Quota.objects.get() == quota


# Setting ---------------------------------------------------------------------------------------------------------


def set_budgets(key, *budgets, **options):
    set_key_budgets(
        **{
            "key_id": key.pk,
            "user_id": key.user_id,
            "budgets": [Budget(*budget) for budget in budgets],
            "by": key.user,
        }
        | options
    )


def test_the_list_is_replaced_and_what_stays_keeps_its_usage(alice, key, quota):
    set_budgets(key, (REQUESTS, "day", 10), (TOKENS, "month", 500))
    hold = reserve(alice, key, {REQUESTS: 3})
    services.consume(user_id=alice.pk, api_key_id=key.pk, amounts={REQUESTS: 2})

    set_budgets(key, (REQUESTS, "day", 20), (COST, "none", 7))

    assert of_key(key) == {"llm.cost in all": 7, "llm.requests a day": 20}
    kept = Quota.objects.of_key(key.pk).get(unit="requests")
    assert (kept.limit, *state(kept)) == (20, 2, 3)
    services.settle(reservation_id=hold.id, used={REQUESTS: 3})
    assert state(kept) == (5, 0)


def test_a_new_budget_belongs_to_the_owner_and_has_its_period(alice, key):
    with time_machine.travel(datetime(2026, 3, 10, 12, tzinfo=UTC), tick=False):
        set_budgets(key, (REQUESTS, "day", 10), (REQUESTS, "none", 11))

    daily, forever = (Quota.objects.get(period=period) for period in ("day", "none"))
    assert {daily.user, forever.user} == {alice}
    assert (daily.reset_date, forever.reset_date) == (datetime(2026, 3, 11, tzinfo=UTC), None)
    assert (daily.base_limit, daily.limit, daily.overage_allowed) == (10, 10, False)


def test_a_limit_below_what_is_used_admits_nothing_more_and_refuses_nothing_that_runs(alice, key, quota):
    set_budgets(key, (REQUESTS, "month", 10))
    services.consume(user_id=alice.pk, api_key_id=key.pk, amounts={REQUESTS: 4})
    hold = reserve(alice, key, {REQUESTS: 3})

    set_budgets(key, (REQUESTS, "month", 5))

    budget = Quota.objects.of_key(key.pk).get()
    assert (budget.base_limit, budget.limit) == (5, 7)
    with pytest.raises(KeyBudgetExceeded):
        reserve(alice, key, {REQUESTS: 1})
    services.settle(reservation_id=hold.id, used={REQUESTS: 9})
    assert state(budget) == (7, 0)
    set_budgets(key, (REQUESTS, "month", 9))
    assert reserve(alice, key, {REQUESTS: 2})


def test_a_budget_that_goes_strands_nothing(alice, key, quota):
    set_budgets(key, (REQUESTS, "month", 10))
    settled, late, released = (reserve(alice, key, {REQUESTS: 3}) for _ in range(3))

    set_budgets(key)
    set_budgets(key, (REQUESTS, "month", 10))

    services.settle(reservation_id=settled.id, used={REQUESTS: 3})
    services.release(reservation_id=released.id)
    services.sweep_expired(now=late.expires_at)
    services.settle(reservation_id=late.id, used={REQUESTS: 2})
    assert state(quota) == (5, 0)
    assert state(Quota.objects.of_key(key.pk).get()) == (0, 0)


def test_setting_them_is_audited(alice, olga, key):
    set_budgets(key, (REQUESTS, "day", 10))
    set_budgets(key, (TOKENS, "month", 5), by=olga, reason="Ticket 7")

    first, second = AuditEvent.objects.filter(action="api_key.budgets_changed").order_by("id")
    assert (first.actor_id, first.target_id) == (alice.pk, str(key.pk))
    assert first.metadata == {"former": {}, "budgets": {"llm.requests a day": 10}, "reason": ""}
    assert second.actor_id == olga.pk
    assert second.metadata == {
        "former": {"llm.requests a day": 10},
        "budgets": {"llm.tokens a month": 5},
        "reason": "Ticket 7",
    }


@pytest.mark.parametrize(
    "budgets",
    [
        [(REQUESTS, "day", 0)],
        [(REQUESTS, "day", -1)],
        [(REQUESTS, "day", MOST_LIMIT + 1)],
        [(REQUESTS, "day", 1), (REQUESTS, "day", 2)],
        [(REQUESTS, "day", 1)] * (MOST_BUDGETS + 1),
    ],
)
def test_senseless_budgets_are_refused_and_change_nothing(key, budgets):
    set_budgets(key, (REQUESTS, "day", 10))

    with pytest.raises(InvalidInput):
        set_budgets(key, *budgets)

    assert of_key(key) == {"llm.requests a day": 10}
    assert AuditEvent.objects.filter(action="api_key.budgets_changed").count() == 1


def test_somebody_elses_key_is_not_found(alice, bob, key):
    set_budgets(key, (REQUESTS, "day", 10))

    for user_id, key_id in ((bob.pk, key.pk), (alice.pk, uuid4())):
        with pytest.raises(NotFound):
            own_key_budgets(key_id=key_id, user_id=user_id)
        with pytest.raises(NotFound):
            set_key_budgets(key_id=key_id, user_id=user_id, budgets=[], by=bob)

    assert of_key(key) == {"llm.requests a day": 10}


def test_what_is_shown_is_of_the_running_period(key):
    budget_of(key, current_usage=9, reset_date=datetime(2020, 1, 1, tzinfo=UTC))

    (shown,) = current_budgets(key_id=key.pk)

    assert shown.current_usage == 0
    assert shown.reset_date > timezone.now()


# The user's own quotas -------------------------------------------------------------------------------------------


def test_budgets_are_not_among_the_users_quotas(alice, key, quota):
    budget_of(key)

    assert services.current_quotas(user_id=alice.pk) == [quota]
    assert services.check(user_id=alice.pk, amounts={REQUESTS: 50}).refusal is None


def test_a_change_of_plan_leaves_budgets_alone(alice, olga, key):
    services.provision(user_id=alice.pk)
    budgets = [budget_of(key), budget_of(key, COST, limit=7), budget_of(key, SPEECH, period="year")]

    for slug in ("pro", "free"):
        services.change_plan(user_id=alice.pk, plan=Plan.objects.get(slug=slug), by=olga)

    assert of_key(key) == {str(budget): budget.base_limit for budget in budgets}
    assert Quota.objects.of_user(alice.pk).count() == 5


def test_a_plan_provides_what_a_budget_of_the_same_kind_does_not(alice, key):
    budget_of(key, REQUESTS, period="day", limit=3)

    services.provision(user_id=alice.pk)

    assert Quota.objects.of_user(alice.pk).get(unit="requests", period="day").limit == 200


@pytest.mark.parametrize(
    ("change", "options"),
    [(services.set_limit, {"limit": 5}), (services.grant, {"amount": 5}), (services.reset_usage, {})],
)
def test_what_operators_do_to_quotas_is_not_for_budgets(olga, key, change, options):
    budget = budget_of(key, current_usage=4)

    with pytest.raises(InvalidInput):
        change(quota=budget, by=olga, **options)

    assert state(budget) == (4, 0)
    assert (budget.base_limit, budget.limit) == (10, 10)
