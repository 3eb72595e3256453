"""How a flag gets from the database to who asks: without SQL while warm, within a second of an edit, without Redis."""

import threading

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from accounts.snapshots import redis_client
from quotas import flag_store
from quotas.flag_store import GENERATION, HASH, active_flags, drop_flags, forget_flags
from quotas.flags import feature
from quotas.models import FeatureFlag
from quotas.tests.factories import FlagFactory, PlanFactory

committed = pytest.mark.django_db(transaction=True)


@pytest.fixture
def long_copies(monkeypatch):
    """However slow the machine is, a copy outlives the test."""
    monkeypatch.setattr(flag_store, "CACHE_SECONDS", 600)


def statements(work):
    with CaptureQueriesContext(connection) as captured:
        work()
    return len(captured)


@committed
def test_a_warm_flag_costs_no_sql(alice, long_copies):
    FlagFactory(key="model", percentage=100, variants={"a": 1}, rules=[{"plan": PlanFactory(), "value": 1}])

    def ask():
        for _ in range(100):
            assert feature(alice.pk, "model") == "a"

    # Flags, rules and variants; the user's subscription, and the default plan.
    assert statements(ask) == 5
    assert statements(ask) == 0


@committed
def test_a_process_that_has_just_started_reads_redis(alice):
    FlagFactory(key="model", value=7, rules=[{"user": alice, "value": "own"}, {"channel": "discord", "value": True}])
    FlagFactory(key="split", percentage="12.34", variants={"a": 1, "b": 3})
    from_rows = active_flags()

    forget_flags()

    assert statements(lambda: None) == statements(active_flags) == 0
    assert active_flags() == from_rows
    assert set(redis_client().hkeys(HASH)) == {b"", b"model", b"split"}


@committed
def test_that_there_are_no_flags_is_remembered_as_well():
    assert active_flags() == {}
    forget_flags()

    assert statements(active_flags) == 0


@committed
def test_an_edit_is_seen_at_once_where_it_was_made_and_by_who_reads_redis(alice):
    FlagFactory(key="model", value=1)
    assert feature(alice.pk, "model") == 1

    with transaction.atomic():
        FeatureFlag.objects.update(value=2)
        drop_flags()

    assert feature(alice.pk, "model") == 2
    forget_flags()
    assert statements(active_flags) == 0
    assert feature(alice.pk, "model") == 2


@committed
def test_an_edit_that_was_rolled_back_is_never_seen(alice):
    FlagFactory(key="model", value=1)

    with transaction.atomic():
        FeatureFlag.objects.update(value=2)
        drop_flags()
        assert feature(alice.pk, "model") == 2
        transaction.set_rollback(True)
    forget_flags()

    assert feature(alice.pk, "model") == 1


@committed
def test_who_has_read_the_old_rows_cannot_bring_them_back(alice, monkeypatch):
    FlagFactory(key="model", value=1)
    real = flag_store._from_rows

    def slow():
        monkeypatch.undo()
        old = real()
        in_another_process(edit)
        return old

    def edit():
        with transaction.atomic():
            FeatureFlag.objects.update(value=2)
            drop_flags()

    monkeypatch.setattr(flag_store, "_from_rows", slow)
    active_flags()
    forget_flags()

    assert feature(alice.pk, "model") == 2


def in_another_process(work):
    """As far as the database can tell."""

    def run():
        try:
            work()
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()


@committed
def test_a_slow_thread_does_not_replace_what_a_faster_one_has_learnt(monkeypatch):
    FlagFactory(key="model", value=1)
    old = flag_store._load()
    FeatureFlag.objects.update(value=2)
    redis_client().flushdb()
    real = flag_store._load

    def slow():
        monkeypatch.undo()
        in_another_process(active_flags)
        assert real()["model"].value == 2
        return old

    monkeypatch.setattr(flag_store, "_load", slow)
    active_flags()

    assert active_flags()["model"].value == 2


@committed
def test_redis_that_is_emptied_is_filled_again(alice):
    FlagFactory(key="model", value=1)
    active_flags()
    redis_client().flushdb()
    forget_flags()

    assert feature(alice.pk, "model") == 1
    assert redis_client().ttl(HASH) > 0


@committed
def test_what_another_release_has_stored_is_not_read(alice):
    FlagFactory(key="model", value=1)
    redis_client().hset(HASH, mapping={"": "other,fields:", "model": b"{}"})

    assert feature(alice.pk, "model") == 1


@committed
def test_without_redis_postgresql_answers(redis_away, alice, long_copies):
    FlagFactory(key="model", percentage=100, variants={"a": 1})

    def ask():
        assert [feature(alice.pk, "model") for _ in range(10)] == ["a"] * 10

    assert statements(ask) == 3
    assert statements(ask) == 0


@committed
def test_an_edit_that_redis_was_not_told_of_is_told_when_it_is_back(alice, monkeypatch):
    FlagFactory(key="model", value=1)
    active_flags()
    monkeypatch.setattr(flag_store, "SECONDS_BETWEEN_TRIES", 0.01)
    begin, tries = flag_store._begin_generation, iter([False, False])
    told = threading.Event()

    def away_at_first():
        if not next(tries, True):
            return False
        begin()
        told.set()
        return True

    monkeypatch.setattr(flag_store, "_begin_generation", away_at_first)
    FeatureFlag.objects.update(value=2)
    drop_flags()

    assert told.wait(10)
    assert redis_client().get(GENERATION)
    assert feature(alice.pk, "model") == 2


def test_the_plans_at_hand_are_bounded(alice, bob, monkeypatch):
    monkeypatch.setattr(flag_store, "MOST_PLANS", 1)

    for user in (alice, bob, alice):
        flag_store.plan_of(user.pk)
        assert list(flag_store._plans) == [user.pk]
