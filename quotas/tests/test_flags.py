"""Who gets what of a feature flag, and that it stays so."""

import subprocess
import sys
from collections import Counter
from datetime import timedelta
from uuid import UUID

import pytest
import time_machine
from django.utils import timezone

from accounts.caller import Caller
from accounts.merging import merge_users
from accounts.tests.factories import UserFactory
from quotas.flag_store import Flag, Variant, forget_flags
from quotas.flags import Assignment, Reason, assignment, assignments, decide, explain, feature
from quotas.models import FeatureFlag, FlagRule, Plan
from quotas.tests.factories import FlagFactory, PlanFactory, SubscriptionFactory

PEOPLE = [UUID(int=number) for number in range(10_000)]


def flag(key="flag", *, percentage=100, salt="salt", **weights):
    """As the store hands it out, without a database."""
    variants = tuple(Variant(name, weight, name) for name, weight in weights.items())
    return Flag("1", key, salt, False, round(percentage * 100), True, variants, {}, {}, {})


def assigned(flag):
    """The variant of each of the 10,000 people; empty for those who take no part."""
    return [decide(flag, person, None).variant for person in PEOPLE]


# Precedence ----------------------------------------------------------------------------------------------------------


def test_the_nearest_rule_decides(alice):
    plan = PlanFactory()
    SubscriptionFactory(user=alice, plan=plan)
    caller = Caller(user_id=alice.pk, channel="discord")
    FlagFactory(
        key="greeting",
        value="default",
        percentage=100,
        percentage_value="percentage",
        rules=[
            {"user": alice, "value": "user"},
            {"plan": plan, "value": "plan"},
            {"channel": "discord", "value": "channel"},
        ],
    )
    found = []
    for gone in ({"user": alice}, {"plan": plan}, {"channel": "discord"}, None):
        forget_flags()
        found.append(assignment(caller, "greeting"))
        if gone:
            FlagRule.objects.filter(**gone).delete()
    FeatureFlag.objects.update(percentage=0)
    forget_flags()
    found.append(assignment(caller, "greeting"))

    order = [Reason.USER, Reason.PLAN, Reason.CHANNEL, Reason.PERCENTAGE, Reason.DEFAULT]
    assert [(one.reason, one.value) for one in found] == [(reason, reason.value) for reason in order]


def test_who_has_no_subscription_is_on_the_default_plan(alice):
    FlagFactory(key="greeting", rules=[{"plan": Plan.objects.get(is_default=True), "value": "hello"}])

    assert feature(alice.pk, "greeting") == "hello"


def test_rules_are_for_those_whom_they_name(alice, bob):
    other = PlanFactory()
    FlagFactory(key="greeting", value=1, rules=[{"user": alice, "value": 2}, {"plan": other, "value": 3}])

    assert (feature(alice.pk, "greeting"), feature(bob.pk, "greeting")) == (2, 1)


def test_a_named_channel_comes_before_the_callers_own(alice):
    FlagFactory(key="commands", rules=[{"channel": "discord", "value": True}])
    caller = Caller(user_id=alice.pk, channel="slack")

    assert feature(caller, "commands") is False
    assert feature(caller, "commands", channel="discord") is True
    assert feature(alice.pk, "commands", channel="discord") is True
    assert feature(alice.pk, "commands") is False


def test_nobody_gets_the_channels_or_the_default_value(db):
    FlagFactory(key="half", percentage=100, rules=[{"channel": "discord", "value": "there"}])

    assert feature(None, "half") is False
    assert feature(None, "half", channel="discord") == "there"


def test_a_flag_that_is_unknown_or_off_gives_what_the_program_says(alice):
    FlagFactory(key="off", value=True, percentage=100, is_active=False)

    for key in ("off", "unknown", "", "x" * 10_000, "\0"):
        assert feature(alice.pk, key, default="mine") == "mine"
        assert assignment(None, key) == Assignment(None, Reason.UNKNOWN)
        assert explain(alice.pk, key).reason is Reason.UNKNOWN
    assert assignments(alice.pk) == {}


@pytest.mark.parametrize("value", [True, False, 0, 1, 100, -2.5, "", "text", "100"])
def test_a_value_comes_out_as_it_was_put_in(alice, value):
    FlagFactory(key="value", value=value)

    found = feature(alice.pk, "value")

    assert found == value
    assert type(found) is type(value)


def test_a_merged_user_gets_what_the_other_one_gets(alice, bob, olga):
    both, one = FlagFactory(value=0), FlagFactory(value=0)
    for flag, user, value in ((both, alice, 1), (both, bob, 2), (one, alice, 3)):
        FlagRule.objects.create(flag=flag, user=user, value=value)

    merge_users(source_id=alice.pk, target_id=bob.pk, by=olga)
    forget_flags()

    assert (feature(bob.pk, both.key), feature(bob.pk, one.key)) == (2, 3)
    assert FlagRule.objects.count() == 2


# The hash ------------------------------------------------------------------------------------------------------------


def test_the_split_is_the_one_that_is_written_down():
    """Were these to change, every running test would begin anew: the numbers are fixed for ever."""
    split = flag("model_selection", percentage=50, variant_a=1, variant_b=1)

    assert "".join((variant or "-")[-1] for variant in assigned(split)[:32]) == "a--ba--ba---ba--b-baa-b---ab-a-b"


def test_another_process_computes_the_same():
    program = (
        "import hashlib, math, uuid\n"
        "def number(*parts):\n"
        "    text = ':'.join(map(str, parts))\n"
        "    return int(hashlib.sha256(text.encode()).hexdigest()[:16], 16)\n"
        "for person in range(200):\n"
        "    user = uuid.UUID(int=person)\n"
        "    if number('salt', 'model', user) % 10_000 >= 5_000: print('-'); continue\n"
        "    far = {}\n"
        "    for name, weight in (('a', 1), ('b', 3)):\n"
        "        far[name] = -math.log((number('salt', 'model', user, name) + 1) / 2**64) / weight\n"
        "    print(min(far, key=far.get))\n"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)

    mine = [variant or "-" for variant in assigned(flag("model", percentage=50, a=1, b=3))[:200]]
    assert answer.stdout.split() == mine


def test_neither_the_day_nor_an_edit_of_the_rest_changes_anything(alice):
    FlagFactory(key="model", percentage=100, variants={"a": 1, "b": 1, "c": 1})
    today = feature(alice.pk, "model")

    with time_machine.travel(timezone.now() + timedelta(days=400)):
        FeatureFlag.objects.update(description="other", value="other")
        forget_flags()
        later = feature(alice.pk, "model")

    assert later == today


@pytest.mark.parametrize("percentage", [0, 0.5, 10, 33.33, 50, 100])
def test_a_percentage_reaches_as_many(percentage):
    reached = sum(map(bool, assigned(flag(percentage=percentage))))

    # Four standard deviations at most.
    share = percentage / 100
    assert abs(reached - 10_000 * share) <= 4 * (10_000 * share * (1 - share)) ** 0.5


def test_a_higher_percentage_only_adds_users():
    before = assigned(flag(percentage=10, a=1, b=2))
    after = assigned(flag(percentage=10.01, a=1, b=2))
    far = assigned(flag(percentage=60, a=1, b=2))

    for earlier, later in ((before, after), (after, far)):
        assert all(now == then for then, now in zip(earlier, later, strict=True) if then)
    assert sum(map(bool, far)) > 2 * sum(map(bool, before))


@pytest.mark.parametrize("weights", [{"a": 1, "b": 1}, {"a": 9, "b": 1}, {"a": 1, "b": 2, "c": 3, "d": 4}, {"a": 7}])
def test_variants_get_their_shares(weights):
    counted = Counter(assigned(flag(**weights)))

    assert chi_square(counted, weights) < 20


def test_a_changed_weight_moves_as_few_as_it_can():
    before = assigned(flag(a=1, b=1, c=2))
    after = assigned(flag(a=2, b=1, c=2))

    moves = Counter((then, now) for then, now in zip(before, after, strict=True) if then != now)
    assert {now for _then, now in moves} == {"a"}
    # Its share grows from 1/4 to 2/5.
    assert abs(moves.total() - 1500) < 200
    assert assigned(flag(a=3, b=3, c=6)) == before
    assert assigned(flag(c=2, b=1, a=1)) == before


def test_a_variant_that_goes_moves_nobody_but_its_own():
    before = assigned(flag(a=1, b=1, c=1))
    after = assigned(flag(a=1, b=1))

    assert all(then in {"c", now} for then, now in zip(before, after, strict=True))


@pytest.mark.parametrize("other", [{"key": "other"}, {"salt": "pepper"}])
def test_two_flags_split_independently(other):
    ours, theirs = assigned(flag(a=1, b=1)), assigned(flag(**{"key": "flag"} | other, a=1, b=1))

    pairs = Counter(zip(ours, theirs, strict=True))
    assert chi_square(pairs, dict.fromkeys(((one, two) for one in "ab" for two in "ab"), 1)) < 20


def test_the_percentage_says_nothing_about_the_variant():
    inner, all_of_them = assigned(flag(percentage=30, a=1, b=1)), Counter()
    all_of_them.update(variant for variant in inner if variant)

    assert chi_square(all_of_them, {"a": 1, "b": 1}) < 11


def chi_square(counted, weights):
    whole, scale = sum(counted.values()), sum(weights.values())
    expected = {name: whole * weight / scale for name, weight in weights.items()}
    assert set(counted) <= set(expected)
    return sum((counted[name] - wanted) ** 2 / wanted for name, wanted in expected.items())


def test_ids_as_users_really_have_them_are_split_evenly(db):
    """They begin with the time, which must not show."""
    people = [UserFactory.build().pk for _ in range(2_000)]
    counted = Counter(decide(flag(a=1, b=1), person, None).variant for person in people)

    assert abs(counted["a"] - 1000) < 180
