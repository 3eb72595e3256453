"""Exposures: each user once a day, flag and variant."""

from datetime import timedelta
from uuid import UUID

import pytest
import time_machine
from django.utils import timezone

from accounts.snapshots import redis_client
from accounts.tests.factories import UserFactory
from quotas import exposures, flag_store, tasks
from quotas.flags import assignments, explain, feature
from quotas.models import FeatureFlag, FlagExposure
from quotas.tests.factories import FlagFactory

pytestmark = pytest.mark.django_db


def counted():
    tasks.flush_exposures()
    return {
        (row.flag.key, row.variant, row.day): row.users for row in FlagExposure.objects.select_related("flag").all()
    }


def today():
    return timezone.now().date()


def test_a_user_counts_once_a_day_however_often_and_wherever(alice, bob):
    FlagFactory(key="model", percentage=100, variants={"a": 1})
    for _ in range(5):
        feature(alice.pk, "model")
        feature(bob.pk, "model")
        assignments(alice.pk)
        # Another process has noted nothing yet.
        exposures.forget_noted()

    assert counted() == {("model", "a", today()): 2}
    assert counted() == {("model", "a", today()): 2}


def test_days_flags_and_variants_count_for_themselves(alice):
    FlagFactory(key="first", percentage=100, variants={"a": 1})
    FlagFactory(key="second", percentage=100)
    day = today()

    assignments(alice.pk)
    with time_machine.travel(timezone.now() + timedelta(days=1)):
        assignments(alice.pk)
        tomorrow = today()
        found = counted()

    assert found == {
        (key, variant, d): 1 for key, variant in (("first", "a"), ("second", "on")) for d in (day, tomorrow)
    }


def test_only_who_takes_part_counts(alice, bob):
    FlagFactory(key="ruled", percentage=100, rules=[{"user": alice, "value": 1}, {"channel": "discord", "value": 2}])
    FlagFactory(key="nobody", percentage=0, variants={"a": 1})

    feature(alice.pk, "ruled")
    feature(bob.pk, "ruled", channel="discord")
    feature(bob.pk, "nobody")
    feature(None, "ruled")
    explain(bob.pk, "ruled")

    assert counted() == {}


def test_most_reads_write_nothing(alice, monkeypatch):
    monkeypatch.setattr(flag_store, "CACHE_SECONDS", 600)
    FlagFactory(key="model", percentage=100, variants={"a": 1})
    feature(alice.pk, "model")
    before = redis_client().info("stats")["total_commands_processed"]

    for _ in range(50):
        feature(alice.pk, "model")

    # The question itself is a command, and other tests may use this server's other databases.
    assert redis_client().info("stats")["total_commands_processed"] - before < 50


def test_a_lost_redis_loses_what_was_not_written_down_and_nothing_else():
    FlagFactory(key="model", percentage=100, variants={"a": 1})
    for number in range(3):
        feature(UUID(int=number), "model")
    assert list(counted().values()) == [3]
    feature(UUID(int=3), "model")

    redis_client().flushdb()
    exposures.forget_noted()
    feature(UUID(int=0), "model")

    assert list(counted().values()) == [3]
    for number in range(5):
        feature(UUID(int=number), "model")
    assert list(counted().values()) == [5]


def test_old_sets_go_when_they_are_written_down(alice):
    FlagFactory(key="model", percentage=100)
    feature(alice.pk, "model")

    for days, left in ((1, 1), (2, 0)):
        with time_machine.travel(timezone.now() + timedelta(days=days)):
            assert list(counted().values()) == [1]
            assert redis_client().scard(exposures.INDEX) == len(redis_client().keys("features:exposures:*")) == left


def test_a_deleted_flag_is_not_written_down(alice):
    FlagFactory(key="model", percentage=100)
    feature(alice.pk, "model")
    FeatureFlag.objects.all().delete()

    assert counted() == {}


def test_without_redis_nothing_is_counted_and_nobody_waits(redis_away, alice):
    FlagFactory(key="model", percentage=100)

    assert feature(alice.pk, "model") is True
    assert exposures._pause
    assert counted() == {}


def test_what_a_process_has_noted_is_bounded(monkeypatch):
    monkeypatch.setattr(exposures, "MOST_NOTED", 2)
    FlagFactory(key="model", percentage=100)

    for _ in range(5):
        feature(UserFactory().pk, "model")
        assert len(exposures._noted) <= 2
    assert list(counted().values()) == [5]
