"""Periods: when they end, and what begins anew then."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
import time_machine
from django.core.management import call_command

from quotas import services
from quotas.exceptions import QuotaExceeded
from quotas.meters import Meter, Period, period_end
from quotas.models import Quota
from quotas.services import periods
from quotas.tasks import reset_quotas
from quotas.tests.factories import PlanFactory, QuotaFactory, SubscriptionFactory

REQUESTS = Meter("llm", "requests")
NOW = datetime(2026, 3, 11, 13, 37, 42, 123, tzinfo=UTC)  # a Wednesday


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("period", "now", "end"),
    [
        ("minute", "2026-03-11T13:37:42.5", "2026-03-11T13:38"),
        ("minute", "2026-12-31T23:59:59", "2027-01-01T00:00"),
        ("hour", "2026-03-11T13:37", "2026-03-11T14:00"),
        ("hour", "2026-03-11T13:00", "2026-03-11T14:00"),
        ("day", "2028-02-28T23:59", "2028-02-29T00:00"),
        ("day", "2026-02-28T00:00", "2026-03-01T00:00"),
        ("week", "2026-03-11T13:37", "2026-03-16T00:00"),
        ("week", "2026-03-15T23:59", "2026-03-16T00:00"),
        ("week", "2026-03-16T00:00", "2026-03-23T00:00"),
        ("month", "2026-01-31T12:00", "2026-02-01T00:00"),
        ("month", "2026-12-01T00:00", "2027-01-01T00:00"),
        ("month", "2028-02-29T23:59", "2028-03-01T00:00"),
        ("year", "2028-02-29T12:00", "2029-01-01T00:00"),
        ("year", "2026-12-31T23:59:59", "2027-01-01T00:00"),
    ],
)
def test_a_period_ends_where_the_calendar_says(period, now, end):
    assert period_end(period, at(now)) == at(end)


def test_a_period_that_never_ends_has_no_end():
    assert period_end(Period.NONE, NOW) is None


@pytest.mark.parametrize(
    ("period", "anchor", "now", "end"),
    [
        ("minute", "2026-03-11T13:37:42.5", "2026-03-11T13:40:42.4", "2026-03-11T13:40:42.5"),
        ("hour", "2026-03-11T13:37", "2026-03-11T14:37", "2026-03-11T15:37"),
        ("day", "2026-03-10T09:30", "2026-03-11T09:29", "2026-03-11T09:30"),
        ("week", "2026-03-11T13:00", "2026-03-25T13:00", "2026-04-01T13:00"),
        ("month", "2026-01-31T08:00", "2026-01-31T08:00", "2026-02-28T08:00"),
        ("month", "2026-01-31T08:00", "2026-02-28T08:00", "2026-03-31T08:00"),
        ("month", "2026-01-31T08:00", "2028-02-29T07:59", "2028-02-29T08:00"),
        ("month", "2026-01-31T08:00", "2026-04-15T00:00", "2026-04-30T08:00"),
        ("month", "2026-12-31T23:59", "2026-12-31T23:59", "2027-01-31T23:59"),
        ("month", "2026-05-15T00:00", "2026-03-01T00:00", "2026-03-15T00:00"),
        ("year", "2028-02-29T00:00", "2028-02-29T00:00", "2029-02-28T00:00"),
        ("year", "2028-02-29T00:00", "2031-12-31T00:00", "2032-02-29T00:00"),
        ("year", "2028-02-29T00:00", "2027-02-28T00:00", "2028-02-29T00:00"),
    ],
)
def test_an_anniversary_is_the_same_day_of_the_month_or_its_last(period, anchor, now, end):
    assert period_end(period, at(now), at(anchor)) == at(end)


@pytest.mark.parametrize("now", ["2026-03-29T02:30", "2026-10-25T02:30", "2026-10-25T00:30"])
def test_a_day_has_24_hours_when_clocks_of_some_country_are_changed(now):
    berlin = at(now).astimezone(ZoneInfo("Europe/Berlin"))

    assert period_end("day", berlin) == at(now).replace(hour=0, minute=0) + timedelta(days=1)
    assert period_end("day", berlin, berlin) == at(now) + timedelta(days=1)


def test_quotas_go_by_the_anniversary_of_the_subscription_if_the_plan_says_so(alice, olga):
    plan = PlanFactory(limits={("llm", "requests", "month"): 10, ("llm", "tokens", "none"): 10})
    plan.limits.update(cycle="anniversary")
    with time_machine.travel(at("2026-01-31T08:00"), tick=False) as clock:
        SubscriptionFactory(user=alice, plan=plan)
        services.consume(user_id=alice.pk, amounts={REQUESTS: 9})
        clock.move_to(at("2026-02-28T08:00"))
        services.consume(user_id=alice.pk, amounts={REQUESTS: 9})
        quota = Quota.objects.get(unit="requests")
        assert quota.reset_date == at("2026-03-31T08:00")

        plan.limits.update(cycle="calendar")
        services.apply_plan_limits(plan_id=plan.pk)

        quota.refresh_from_db()
        assert (quota.reset_date, quota.anchored_at, quota.current_usage) == (at("2026-03-01T00:00"), None, 9)


def test_a_clock_that_goes_back_begins_no_period_anew(alice):
    quota = QuotaFactory(user=alice, limit=10)
    services.consume(user_id=alice.pk, amounts={REQUESTS: 9})

    assert services.reset_due(now=quota.reset_date - timedelta(days=400)) == 0
    assert services.reset_due(now=quota.reset_date) == 1
    assert services.reset_due(now=quota.reset_date - timedelta(days=2)) == 0


@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_the_command_begins_the_periods_that_are_due(alice, options, capsys):
    quota = QuotaFactory(user=alice)
    Quota.objects.update(current_usage=5, reset_date=NOW - timedelta(days=4000))

    call_command("reset_quotas", *options)

    assert "1 quotas" in capsys.readouterr().out
    assert usage(quota)[0] == (5 if options else 0)


def usage(quota):
    quota.refresh_from_db()
    return quota.current_usage, quota.held, quota.limit


LASTING = {
    "minute": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(days=7),
    "month": timedelta(days=31),
    "year": timedelta(days=366),
}


@pytest.mark.parametrize("period", LASTING)
def test_a_call_after_the_end_begins_a_new_period(alice, period):
    with time_machine.travel(NOW, tick=False) as clock:
        quota = QuotaFactory(user=alice, period=period, limit=10)
        services.consume(user_id=alice.pk, amounts={REQUESTS: 10})
        clock.move_to(quota.reset_date - timedelta(microseconds=1))
        with pytest.raises(QuotaExceeded):
            services.reserve(user_id=alice.pk, amounts={REQUESTS: 1}, seconds=60)

        clock.move_to(quota.reset_date)
        services.reserve(user_id=alice.pk, amounts={REQUESTS: 4}, seconds=60)

        assert usage(quota) == (0, 4, 10)
        assert quota.reset_date == period_end(period, datetime.now(UTC))
        assert datetime.now(UTC) < quota.reset_date <= datetime.now(UTC) + LASTING[period]


def test_a_quota_that_never_resets_never_does(alice):
    with time_machine.travel(NOW, tick=False) as clock:
        quota = QuotaFactory(user=alice, period="none", limit=10)
        services.consume(user_id=alice.pk, amounts={REQUESTS: 10})
        clock.move_to(NOW + timedelta(days=10_000))

        with pytest.raises(QuotaExceeded) as refusal:
            services.reserve(user_id=alice.pk, amounts={REQUESTS: 1}, seconds=60)

    assert refusal.value.resets_at is None
    assert "resets" not in str(refusal.value)
    assert usage(quota) == (10, 0, 10)


def test_periods_that_were_slept_through_are_skipped(alice):
    with time_machine.travel(NOW, tick=False) as clock:
        quota = QuotaFactory(user=alice, period="day", limit=10)
        clock.move_to(NOW + timedelta(days=40))
        services.reserve(user_id=alice.pk, amounts={REQUESTS: 1}, seconds=60)

    quota.refresh_from_db()
    assert quota.reset_date == at("2026-04-21T00:00")


def test_what_is_held_is_carried_into_the_new_period_and_charged_there(alice):
    with time_machine.travel(NOW, tick=False) as clock:
        quota = QuotaFactory(user=alice, period="day", limit=10)
        services.consume(user_id=alice.pk, amounts={REQUESTS: 3})
        hold = services.reserve(user_id=alice.pk, amounts={REQUESTS: 6}, seconds=86_400)
        clock.move_to(quota.reset_date)

        with pytest.raises(QuotaExceeded):
            services.reserve(user_id=alice.pk, amounts={REQUESTS: 5}, seconds=60)
        assert usage(quota) == (0, 6, 10)
        services.settle(reservation_id=hold.id, used={REQUESTS: 5})

    assert usage(quota) == (5, 0, 10)


def test_a_new_period_applies_a_lowered_limit_and_grants_that_expire_end(alice, olga):
    granted = QuotaFactory(user=alice, limit=10)
    lowered = QuotaFactory(user=alice, unit="tokens", limit=10)
    services.consume(user_id=alice.pk, amounts={Meter("llm", "tokens"): 9})
    services.grant(quota=granted, amount=5, by=olga, expires_at=granted.reset_date)
    services.set_limit(quota=lowered, limit=4, by=olga)
    assert (usage(granted)[2], usage(lowered)[2]) == (15, 9)

    assert services.reset_due(now=granted.reset_date) == 2

    assert (usage(granted), usage(lowered)) == ((0, 0, 10), (0, 0, 4))


def test_a_lowered_limit_stays_above_what_is_held_when_the_period_begins(alice, olga):
    quota = QuotaFactory(user=alice, limit=10)
    services.reserve(user_id=alice.pk, amounts={REQUESTS: 8}, seconds=60)
    services.set_limit(quota=quota, limit=3, by=olga)

    services.reset_due(now=quota.reset_date)

    assert usage(quota) == (0, 8, 8)


def test_resetting_reaches_everybody_or_one(alice, bob):
    hers, his = QuotaFactory(user=alice), QuotaFactory(user=bob)
    Quota.objects.update(current_usage=5)
    then = hers.reset_date

    assert services.reset_due(user_id=alice.pk, now=then) == 1
    assert (usage(hers)[0], usage(his)[0]) == (0, 5)
    assert services.reset_due(now=then) == 1
    assert usage(his)[0] == 0
    assert services.reset_due(now=then) == 0


def test_resetting_goes_on_until_nothing_is_left(alice, monkeypatch):
    monkeypatch.setattr(periods, "BATCH", 2)
    for period in LASTING:
        QuotaFactory(user=alice, period=period)

    assert services.reset_due(now=NOW + timedelta(days=10_000)) == len(LASTING)


def test_the_task_resets_what_is_due(alice):
    quota = QuotaFactory(user=alice)
    Quota.objects.update(current_usage=5, reset_date=NOW - timedelta(days=4000))

    reset_quotas()

    assert usage(quota)[0] == 0


def test_what_is_shown_is_never_of_a_period_that_is_over(alice):
    QuotaFactory(user=alice)
    Quota.objects.update(current_usage=5, reset_date=NOW - timedelta(days=4000))

    assert [quota.current_usage for quota in services.current_quotas(user_id=alice.pk)] == [0]
