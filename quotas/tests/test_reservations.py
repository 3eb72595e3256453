"""reserve, settle, release, consume and check: what a hold is, and that it is all or nothing."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import time_machine
from django.utils import timezone

from accounts.exceptions import InvalidInput
from quotas import services
from quotas.exceptions import QuotaExceeded, ReservationNotFound, ReservationNotHeld
from quotas.meters import Meter
from quotas.models import Quota, Reservation, Subscription
from quotas.tests.factories import QuotaFactory, SubscriptionFactory

REQUESTS = Meter("llm", "requests")
TOKENS = Meter("llm", "tokens")
COST = Meter("llm", "cost")
SPEECH = Meter("tts", "characters")

pytestmark = pytest.mark.django_db


@pytest.fixture
def requests(alice):
    return QuotaFactory(user=alice, unit="requests", limit=10)


@pytest.fixture
def tokens(alice):
    return QuotaFactory(user=alice, unit="tokens", limit=1000)


def reserve(user, amounts, **options):
    return services.reserve(**{"user_id": user.pk, "amounts": amounts, "seconds": 60} | options)


def state(quota):
    quota.refresh_from_db()
    return quota.current_usage, quota.held


def only():
    return Reservation.objects.get()


# Reserving -------------------------------------------------------------------------------------------------------


def test_a_hold_is_taken_on_every_quota_that_it_touches(alice, requests, tokens):
    daily = QuotaFactory(user=alice, unit="tokens", period="day", limit=500)
    untouched = QuotaFactory(user=alice, resource_type="tts", unit="characters")

    hold = reserve(alice, {REQUESTS: 1, TOKENS: 120})

    assert [state(quota) for quota in (requests, tokens, daily, untouched)] == [(0, 1), (0, 120), (0, 120), (0, 0)]
    row = only()
    assert row.id == hold.id
    assert (row.status, row.user_id, row.settled_at) == ("held", alice.pk, None)
    assert row.amounts == {"llm.requests": 1, "llm.tokens": 120}
    assert row.holds == {str(requests.pk): 1, str(tokens.pk): 120, str(daily.pk): 120}
    assert row.expires_at == hold.expires_at
    assert timedelta(seconds=50) < row.expires_at - timezone.now() < timedelta(seconds=61)


@pytest.mark.parametrize("order", [1, -1])
def test_what_does_not_fit_one_quota_is_held_on_none(alice, requests, tokens, order):
    amounts = dict([(REQUESTS, 1), (TOKENS, 1001)][::order])

    with pytest.raises(QuotaExceeded) as refusal:
        reserve(alice, amounts)

    assert (refusal.value.meter, refusal.value.limit, refusal.value.remaining) == (TOKENS, 1000, 1000)
    assert refusal.value.resets_at == tokens.reset_date
    assert [state(requests), state(tokens)] == [(0, 0), (0, 0)]
    assert not Reservation.objects.exists()


def test_one_of_two_periods_is_enough_to_refuse(alice, tokens):
    daily = QuotaFactory(user=alice, unit="tokens", period="day", limit=5)

    with pytest.raises(QuotaExceeded) as refusal:
        reserve(alice, {TOKENS: 6})

    assert refusal.value.limit == 5
    assert [state(tokens), state(daily)] == [(0, 0), (0, 0)]


def test_exactly_the_rest_fits_and_one_more_does_not(alice, requests):
    reserve(alice, {REQUESTS: 4})
    with pytest.raises(QuotaExceeded):
        reserve(alice, {REQUESTS: 7})
    reserve(alice, {REQUESTS: 6})

    assert state(requests) == (0, 10)
    with pytest.raises(QuotaExceeded) as refusal:
        reserve(alice, {REQUESTS: 1})
    assert refusal.value.remaining == 0


def test_what_is_used_counts_like_what_is_held(alice, requests):
    services.consume(user_id=alice.pk, amounts={REQUESTS: 8})
    reserve(alice, {REQUESTS: 2})

    with pytest.raises(QuotaExceeded):
        reserve(alice, {REQUESTS: 1})


def test_nothing_is_always_admitted_even_when_all_is_used(alice, requests):
    reserve(alice, {REQUESTS: 10})

    assert reserve(alice, {REQUESTS: 0})
    assert state(requests) == (0, 10)


def test_overage_is_let_through_and_counted(alice):
    quota = QuotaFactory(user=alice, limit=1, overage_allowed=True)

    hold = reserve(alice, {REQUESTS: 5})
    assert state(quota) == (0, 5)
    services.settle(reservation_id=hold.id, used={REQUESTS: 9})
    assert state(quota) == (9, 0)
    assert quota.remaining == 0


def test_a_meter_without_a_quota_is_not_limited(alice, requests):
    hold = reserve(alice, {REQUESTS: 1, COST: 10**12})

    assert only().holds == {str(requests.pk): 1}
    services.settle(reservation_id=hold.id, used={REQUESTS: 1, COST: 7})
    assert only().used == {"llm.requests": 1, "llm.cost": 7}
    assert only().charged == {str(requests.pk): 1}


@pytest.mark.parametrize("amounts", [{SPEECH: 1}, {REQUESTS: 1, SPEECH: 1}, {SPEECH: 0}, {COST: 1}])
def test_a_resource_that_is_not_in_the_plan_is_refused(alice, requests, amounts):
    SubscriptionFactory(user=alice)

    with pytest.raises(QuotaExceeded) as refusal:
        reserve(alice, amounts)

    assert refusal.value.meter is None
    assert "plan does not include" in str(refusal.value)
    assert state(requests) == (0, 0)


@pytest.mark.parametrize("amounts", [{}, {REQUESTS: -1}, {REQUESTS: 1, TOKENS: -5}])
def test_senseless_amounts_are_refused(alice, requests, tokens, amounts):
    with pytest.raises(InvalidInput):
        reserve(alice, amounts)

    assert [state(requests), state(tokens)] == [(0, 0), (0, 0)]


def test_nobody_holds_on_anothers_quota(alice, bob, requests):
    his = QuotaFactory(user=bob, unit="requests", limit=10)

    reserve(alice, {REQUESTS: 10})

    assert state(his) == (0, 0)
    assert reserve(bob, {REQUESTS: 10})


def test_the_first_call_of_a_user_makes_the_quotas_of_the_default_plan(alice):
    reserve(alice, {REQUESTS: 1, TOKENS: 100})

    assert Subscription.objects.get(user=alice).plan.slug == "free"
    found = {(quota.resource_type, quota.unit, quota.period): quota for quota in Quota.objects.filter(user=alice)}
    assert len(found) == 5
    assert (found["llm", "requests", "day"].limit, found["llm", "requests", "day"].held) == (200, 1)
    assert (found["llm", "tokens", "month"].limit, found["llm", "tokens", "month"].held) == (200_000, 100)


def test_the_refusal_says_what_is_left_and_until_when(alice):
    with time_machine.travel(datetime(2026, 3, 10, tzinfo=UTC), tick=False):
        QuotaFactory(user=alice, limit=10)
        reserve(alice, {REQUESTS: 5})
        with pytest.raises(QuotaExceeded) as refusal:
            reserve(alice, {REQUESTS: 6})
        with pytest.raises(QuotaExceeded) as for_ever:
            reserve(alice, {REQUESTS: 11})

    assert str(refusal.value) == (
        "You have 5 of 10 llm.requests left, less than this call needs. The quota resets at 2026-04-01T00:00:00Z."
    )
    assert str(for_ever.value) == "This call needs 11 llm.requests, more than your whole quota of 10."


# Settling --------------------------------------------------------------------------------------------------------


def test_settling_replaces_the_hold_by_what_was_used(alice, requests, tokens):
    hold = reserve(alice, {REQUESTS: 1, TOKENS: 500})

    services.settle(reservation_id=hold.id, used={REQUESTS: 1, TOKENS: 42})

    assert [state(requests), state(tokens)] == [(1, 0), (42, 0)]
    row = only()
    assert row.status == "confirmed"
    assert row.settled_at is not None
    assert row.used == {"llm.requests": 1, "llm.tokens": 42}
    assert row.charged == {str(requests.pk): 1, str(tokens.pk): 42}


def test_an_overrun_is_charged_as_far_as_the_quota_has_room(alice, tokens):
    hold = reserve(alice, {TOKENS: 100})
    reserve(alice, {TOKENS: 800})

    services.settle(reservation_id=hold.id, used={TOKENS: 350})

    assert state(tokens) == (200, 800)
    row = Reservation.objects.get(pk=hold.id)
    assert row.used == {"llm.tokens": 350}
    assert row.charged == {str(tokens.pk): 200}


def test_an_overrun_that_fits_is_charged_in_full(alice, tokens):
    hold = reserve(alice, {TOKENS: 100})

    services.settle(reservation_id=hold.id, used={TOKENS: 350})

    assert state(tokens) == (350, 0)


def test_a_meter_that_was_held_and_not_used_is_let_go(alice, requests, tokens):
    hold = reserve(alice, {REQUESTS: 1, TOKENS: 500})

    services.settle(reservation_id=hold.id, used={REQUESTS: 1})

    assert [state(requests), state(tokens)] == [(1, 0), (0, 0)]


def test_a_meter_that_was_not_held_is_not_charged(alice, requests, tokens):
    hold = reserve(alice, {REQUESTS: 1})

    services.settle(reservation_id=hold.id, used={REQUESTS: 1, TOKENS: 500})

    assert [state(requests), state(tokens)] == [(1, 0), (0, 0)]


def end_by_settling(hold):
    services.settle(reservation_id=hold.id, used={REQUESTS: 1})


def end_by_release(hold):
    services.release(reservation_id=hold.id)


@pytest.mark.parametrize("first", [end_by_settling, end_by_release])
@pytest.mark.parametrize("second", [end_by_settling, end_by_release])
def test_a_hold_ends_once(alice, requests, first, second):
    hold = reserve(alice, {REQUESTS: 3})
    first(hold)
    before = state(requests)

    with pytest.raises(ReservationNotHeld):
        second(hold)

    assert state(requests) == before


@pytest.mark.parametrize("end", [end_by_settling, end_by_release])
def test_a_hold_that_never_was_cannot_end(db, end):
    with pytest.raises(ReservationNotHeld):
        end(services.Hold(uuid4(), timezone.now()))


def test_releasing_charges_nothing(alice, requests):
    hold = reserve(alice, {REQUESTS: 3})

    services.release(reservation_id=hold.id)

    assert state(requests) == (0, 0)
    assert (only().status, only().used, only().charged) == ("released", None, {})
    assert only().settled_at is not None


# Expiry ----------------------------------------------------------------------------------------------------------


def test_the_sweep_lets_go_what_is_over_and_nothing_else(alice, requests):
    over, running = reserve(alice, {REQUESTS: 3}, seconds=60), reserve(alice, {REQUESTS: 2}, seconds=3600)
    later = timezone.now() + timedelta(seconds=61)

    assert services.sweep_expired(now=timezone.now()) == 0
    assert services.sweep_expired(now=later) == 1
    assert services.sweep_expired(now=later) == 0

    assert state(requests) == (0, 2)
    assert Reservation.objects.get(pk=over.id).status == "expired"
    assert Reservation.objects.get(pk=running.id).status == "held"


def test_a_call_that_outlives_its_hold_is_charged_all_the_same(alice, tokens):
    hold = reserve(alice, {TOKENS: 100})
    services.sweep_expired(now=hold.expires_at)
    assert state(tokens) == (0, 0)

    services.settle(reservation_id=hold.id, used={TOKENS: 80})

    assert state(tokens) == (80, 0)
    assert only().status == "confirmed"
    assert only().charged == {str(tokens.pk): 80}
    with pytest.raises(ReservationNotHeld):
        services.settle(reservation_id=hold.id, used={TOKENS: 80})


def test_a_late_charge_takes_no_more_than_there_is(alice, tokens):
    hold = reserve(alice, {TOKENS: 100})
    services.sweep_expired(now=hold.expires_at)
    reserve(alice, {TOKENS: 970})

    services.settle(reservation_id=hold.id, used={TOKENS: 80})

    assert state(tokens) == (30, 970)


def test_a_late_charge_is_for_what_was_held(alice, requests, tokens):
    hold = reserve(alice, {REQUESTS: 1})
    services.sweep_expired(now=hold.expires_at)

    services.settle(reservation_id=hold.id, used={REQUESTS: 1, TOKENS: 80})

    assert [state(requests), state(tokens)] == [(1, 0), (0, 0)]


def test_an_expired_hold_cannot_be_released(alice, requests):
    hold = reserve(alice, {REQUESTS: 1})
    services.sweep_expired(now=hold.expires_at)

    with pytest.raises(ReservationNotHeld):
        services.release(reservation_id=hold.id)


# Consuming, finding and asking -----------------------------------------------------------------------------------


def test_consuming_charges_at_once_or_not_at_all(alice, requests, tokens):
    services.consume(user_id=alice.pk, amounts={REQUESTS: 4, TOKENS: 10})
    with pytest.raises(QuotaExceeded):
        services.consume(user_id=alice.pk, amounts={REQUESTS: 7, TOKENS: 1})

    assert [state(requests), state(tokens)] == [(4, 0), (10, 0)]
    assert only().status == "confirmed"


def test_only_the_owner_finds_a_reservation_and_only_one_that_was_made_over_the_api(alice, bob, requests):
    hers = reserve(alice, {REQUESTS: 1}, by_client=True)
    of_a_call = reserve(alice, {REQUESTS: 1})

    assert services.own_reservation(reservation_id=hers.id, user_id=alice.pk).pk == hers.id
    for reservation, user in ((hers, bob), (of_a_call, alice), (of_a_call, bob)):
        with pytest.raises(ReservationNotFound):
            services.own_reservation(reservation_id=reservation.id, user_id=user.pk)


@pytest.mark.parametrize(
    "amounts",
    [{REQUESTS: 11}, {REQUESTS: 1, TOKENS: 1001}, {COST: 5}, {SPEECH: 0}, {REQUESTS: 1, SPEECH: 1}],
)
def test_check_refuses_what_reserve_refuses_and_says_the_same(alice, requests, tokens, amounts):
    SubscriptionFactory(user=alice)

    verdict = services.check(user_id=alice.pk, amounts=amounts)

    with pytest.raises(QuotaExceeded) as refusal:
        reserve(alice, amounts)
    assert str(verdict.refusal) == str(refusal.value)


@pytest.mark.parametrize("amounts", [{REQUESTS: 10}, {REQUESTS: 0}, {REQUESTS: 1, COST: 10**12}])
def test_check_allows_what_reserve_admits_and_holds_nothing(alice, requests, tokens, amounts):
    assert services.check(user_id=alice.pk, amounts=amounts).refusal is None

    assert state(requests) == (0, 0)
    assert not Reservation.objects.exists()
    assert reserve(alice, amounts)


def test_check_provisions_like_reserve_does(alice, requests):
    assert services.check(user_id=alice.pk, amounts={SPEECH: 1}).refusal is None
    assert services.check(user_id=alice.pk, amounts={SPEECH: 10**6}).refusal is not None


def test_check_shows_the_quotas_of_the_resources_that_were_asked_for(alice, requests, tokens):
    QuotaFactory(user=alice, resource_type="tts", unit="characters")

    verdict = services.check(user_id=alice.pk, amounts={REQUESTS: 1})

    assert {quota.pk for quota in verdict.quotas} == {requests.pk, tokens.pk}
