"""The decision itself: against a log of all hits, several windows at once, many threads, with and without Redis."""

import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from django.db import connection
from hypothesis import given, settings
from hypothesis import strategies as st

from accounts.caller import Caller
from accounts.snapshots import redis_client
from quotas import local_rates, plan_rates, rates, services, used_tokens
from quotas.admission import forget_rates
from quotas.exceptions import RateLimitExceeded
from quotas.models import Plan
from quotas.rates import Subject
from quotas.tests.factories import PlanFactory, SubscriptionFactory
from quotas.windows import MOST_RATE, Rate, Window

NOON = 1_893_499_200.0  # 2030-01-01T12:00Z: a window of each size begins


def subject(*windows, name=None):
    return Subject(name or f"rate:test:{uuid4()}", "address", None, tuple(Rate(*window) for window in windows))


def use(subjects, tokens):
    rates.limits_of(subjects)
    used_tokens.note(subjects, tokens, now=NOON)
    used_tokens.flush()


def let_in(subjects, now=NOON):
    return rates.decide(subjects, now=now).admitted


@pytest.fixture(params=["redis", "here"])
def store(request):
    """Both places that count."""
    if request.param == "here":
        request.getfixturevalue("redis_away")
    return request.param


# The arithmetic --------------------------------------------------------------------------------------------------

steps = st.lists(st.tuples(st.integers(0, 700), st.integers(0, 3)), min_size=1, max_size=60)
RATES = [("requests", 1000, 5), ("requests", 3000, 8), ("tokens", 2000, 4)]


class Log:
    """Every hit with its time, counted anew for each question."""

    def __init__(self):
        self.hits = defaultdict(list)

    def used(self, unit, size, now):
        index, gone = divmod(now, size)
        before = sum(n for at, n in self.hits[unit] if at // size == index - 1)
        current = sum(n for at, n in self.hits[unit] if at // size == index)
        return before * (size - gone) // size + current


@given(steps)
@settings(max_examples=60, deadline=None)
def test_it_says_what_a_log_of_all_hits_says(moves):
    for run in (run_shared, run_here):
        log, limits, now = Log(), rates.limits_of((subject(*RATES),)), int(NOON * 1000)
        for pause, tokens in moves:
            now += pause
            expected = all(log.used(unit, size, now) < limit for unit, size, limit in RATES)
            assert run(limits, now, requests=1) == expected
            if expected:
                log.hits["requests"].append((now, 1))
                run(limits, now, requests=0, tokens=tokens)
                log.hits["tokens"].append((now, tokens))
        for unit, size, limit in RATES[:2]:
            starts = [at for at, _ in log.hits[unit]]
            assert all(sum(start <= at < start + size for at in starts) <= 2 * limit for start in starts)


def run_shared(limits, now, *, requests, tokens=0):
    return rates._ask(limits, rates.script_arguments(limits, now, requests=requests, tokens=[tokens]))[0].admitted


def run_here(limits, now, *, requests, tokens=0):
    return bool(local_rates.run([(one.name, one.rates) for one in limits.counters], now, requests, tokens)[0])


@given(st.integers(1, 50), st.integers(1, 10_000), st.data(), st.integers(0, 200), st.integers(0, 200), st.booleans())
@settings(max_examples=200, deadline=None)
def test_the_wait_and_the_reset_are_true_to_the_millisecond(limit, size, data, before, current, is_reset):
    gone = data.draw(st.integers(0, size - 1))
    window = Window(Rate("requests", size, limit), gone, before, current)
    wait, most = (window.reset, 1) if is_reset else (window.wait, limit)

    def used_after(milliseconds):
        later = gone + milliseconds
        if later < size:
            return Window(window.rate, later, before, current).used
        return Window(window.rate, later - size, current, 0).used if later < 2 * size else 0

    assert used_after(wait) < most
    assert wait == 0 or used_after(wait - 1) >= most


def test_a_window_at_its_borders(store):
    who = (subject(("requests", 1000, 2)),)
    assert [let_in(who, NOON + at) for at in (0, 0.999, 0.999)] == [True, True, False]
    # All of the window before still counts, and a millisecond later a little less.
    assert [let_in(who, NOON + at) for at in (1.0, 1.001, 1.002, 1.5, 1.501)] == [False, True, False, False, True]
    assert let_in(who, NOON + 3)


def test_a_clock_that_lags_behind_finds_no_new_window(store):
    who = (subject(("requests", 1000, 2)),)
    assert let_in(who, NOON + 1)
    assert [let_in(who, NOON + 0.999) for _ in range(2)] == [True, False]
    assert not let_in(who, NOON + 1)


def test_huge_numbers(store):
    who = (subject(("requests", 86_400_000, MOST_RATE), ("tokens", 86_400_000, MOST_RATE)),)
    use(who, MOST_RATE - 1)
    assert let_in(who)
    use(who, 10**14)
    decision = rates.decide(who, now=NOON)
    assert not decision.admitted
    assert decision.tightest()["tokens"].remaining == 0
    assert 0 < decision.retry_after <= 2 * 86_400


# Several windows and subjects ------------------------------------------------------------------------------------


def test_a_refused_call_counts_in_no_window_of_nobody(store):
    tight, wide = subject(("requests", 60_000, 1)), subject(("requests", 1000, 100), ("requests", 86_400_000, 3))
    assert let_in((wide, tight))
    for _ in range(5):
        assert not let_in((wide, tight))
    assert [let_in((wide,)) for _ in range(3)] == [True, True, False]


def test_who_is_refused_is_told_the_window_that_takes_longest():
    who = (subject(("requests", 1000, 1), ("requests", 60_000, 1)),)
    assert let_in(who)
    decision = rates.decide(who, now=NOON + 0.5)
    with pytest.raises(RateLimitExceeded, match=r"1 request a minute\. Try again in 60 seconds\."):
        decision.check()
    assert not let_in(who, NOON + 0.5 + decision.retry_after - 1)
    assert let_in(who, NOON + 0.5 + decision.retry_after)


def test_tokens_are_counted_afterwards_and_then_stop_the_next_call(store):
    who = (subject(("tokens", 60_000, 100)),)
    assert let_in(who)
    use(who, 99)
    assert let_in(who)
    use(who, 500)
    assert not let_in(who)
    assert set(rates.decide(who, now=NOON).tightest()) == {"tokens"}


def test_tokens_of_many_calls_are_told_at_once_by_a_thread(monkeypatch):
    monkeypatch.setattr(used_tokens, "SECONDS_GATHERED", 0.01)
    monkeypatch.setattr(used_tokens, "MOST_AT_ONCE", 1)
    who, others = (subject(("tokens", 60_000, 100)),), (subject(("tokens", 60_000, 1)),)
    for subjects in (who, others, (*who, subject(("requests", 1000, 1)))):
        rates.limits_of(subjects)
        used_tokens.note(subjects, 40, now=NOON)
    for _ in range(500):
        if (left := rates.decide(who, now=NOON).tightest()["tokens"].remaining) == 20:
            break
        time.sleep(0.01)
    assert left == 20
    assert not let_in(others)
    assert len(redis_client().keys("rate:test:*")) == 2


def test_64_threads_are_let_in_up_to_the_limit(store):
    who = (subject(("requests", 1000, 50), ("requests", 86_400_000, 50)),)
    with ThreadPoolExecutor(64) as threads:
        answers = list(threads.map(lambda _: let_in(who), range(64)))
    assert answers.count(True) == 50


# Plans -----------------------------------------------------------------------------------------------------------


def limited(**sections):
    return SubscriptionFactory(plan=PlanFactory(rate_limits=sections)).user


def who_calls(user, route_class="api", **fields):
    return rates.subjects_of(Caller(user_id=user.pk, **fields), route_class)


def minute(count, unit="requests"):
    return {unit: {"minute": count}}


@pytest.mark.django_db
def test_each_class_of_routes_is_counted_by_itself():
    user = limited(default=minute(1), inference=minute(2))
    for route_class, limit in (("api", 1), ("prompts", 1), ("inference", 2)):
        assert [let_in(who_calls(user, route_class)) for _ in range(3)].count(True) == limit


@pytest.mark.django_db
def test_a_key_is_limited_over_all_classes_and_a_channel_over_all_its_people():
    owner, person, other = limited(key=minute(3), channel=minute(2)), limited(), limited()
    key = uuid4()
    assert [let_in(who_calls(owner, route, api_key_id=key)) for route in ("api", "inference")] == [True, True]
    acting = {"api_key_id": uuid4(), "acted_by": owner.pk, "channel": "discord"}
    assert [let_in(who_calls(whom, **acting)) for whom in (person, other, person)] == [True, True, False]
    assert let_in(who_calls(person, **acting | {"channel": "slack"}))
    assert [let_in(who_calls(owner, api_key_id=key)) for _ in range(2)] == [True, False]


@pytest.mark.django_db(transaction=True)
def test_a_change_of_the_plan_is_seen_at_once(olga, django_assert_num_queries):
    user = limited(default=minute(1))
    assert [let_in(who_calls(user)) for _ in range(2)] == [True, False]
    with django_assert_num_queries(0):
        assert not let_in(who_calls(user))

    services.change_plan(user_id=user.pk, plan=PlanFactory(rate_limits={"default": minute(2)}), by=olga)
    assert [let_in(who_calls(user)) for _ in range(2)] == [True, False]

    plan = user.subscriptions.get().plan
    plan.rate_limits = {"default": minute(3)}
    plan.save()
    plan_rates.publish(plan=plan)
    assert [let_in(who_calls(user)) for _ in range(2)] == [True, False]


@pytest.mark.django_db(transaction=True)
def test_who_has_no_subscription_yet_follows_the_default_plan(alice, olga):
    assert let_in(who_calls(alice))
    services.set_default_plan(plan=PlanFactory(rate_limits={"default": minute(1)}), by=olga)
    assert not let_in(who_calls(alice))

    Plan.objects.update(is_default=False)
    forget_rates()
    assert let_in(who_calls(alice))


@pytest.mark.django_db
def test_plans_that_change_all_the_time_do_not_keep_a_call_waiting():
    user = limited(default=minute(1))
    redis_client().set(f"rate:plan:{user.subscriptions.get().plan_id}", "never what was read")
    assert [let_in(who_calls(user)) for _ in range(2)] == [True, False]


@pytest.mark.django_db
def test_a_process_remembers_no_more_than_it_may(monkeypatch):
    monkeypatch.setattr(plan_rates, "MOST_REMEMBERED", 2)
    users = [limited(default=minute(1)) for _ in range(3)]
    assert all(let_in(who_calls(user)) for user in users)
    assert len(plan_rates._remembered) == 1
    assert not any(let_in(who_calls(user)) for user in users)


# Redis -----------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_redis_that_was_emptied_is_a_new_start():
    user = limited(default=minute(1))
    assert let_in(who_calls(user))
    redis_client().flushdb()
    redis_client().script_flush()
    assert [let_in(who_calls(user)) for _ in range(2)] == [True, False]


@pytest.mark.django_db
def test_counters_do_not_outlive_their_windows():
    user = limited(default={"requests": {"second": 1, "minute": 1}})
    let_in(who_calls(user))
    (name,) = redis_client().keys("rate:*")
    assert 60_000 < redis_client().pttl(name) <= 120_000


@pytest.mark.django_db
def test_without_redis_each_process_limits_by_itself_and_says_so(redis_away):
    user = limited(default=minute(2))
    assert [let_in(who_calls(user)) for _ in range(3)] == [True, True, False]
    assert local_rates.decided_locally() == 3
    with connection.execute_wrapper(lambda *_: pytest.fail("the plan is read only for who is limited by one")):
        assert let_in((subject(("requests", 1000, 1)),))


def test_a_warning_once_a_minute(monkeypatch):
    said = []
    monkeypatch.setattr(local_rates.log, "warning", lambda *words, **_: said.append(words), raising=False)
    here = local_rates.LocalRates()
    assert not here.is_redis_away()
    here.redis_is_away()
    assert here.is_redis_away()
    for _ in range(3):
        here.run([], 0, 1, 0)
    assert said == [("rate_limits_local",)]


def test_a_process_keeps_no_more_counters_than_it_may(monkeypatch):
    monkeypatch.setattr(local_rates, "MOST_COUNTERS", 2)
    here = local_rates.LocalRates()
    for name in ("a", "b", "a", "c"):
        here.run([(name, [Rate("requests", 1000, 9)])], 0, 1, 0)
    assert list(here._counters) == ["a", "c"]
