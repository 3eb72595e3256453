"""What no flag may be: refused by the database, whoever writes, and with a sentence in the admin."""

import json

import pytest
from django.core.exceptions import ValidationError
from django.db import DataError, IntegrityError, connection, transaction

from quotas.flag_values import LARGEST, LONGEST, check_value, parse_value, typed_value
from quotas.models import FeatureFlag, FlagExposure, FlagRule, FlagVariant
from quotas.tests.factories import FlagFactory, PlanFactory

pytestmark = pytest.mark.django_db

SENSELESS = ["null", "[]", "[true]", "{}", '{"a": 1}', "1e300", str(LARGEST + 1), json.dumps("x" * 1_000_000)]


def refused(statement, *values):
    with pytest.raises((IntegrityError, DataError)) as refusal, transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement, values)
    return str(refusal.value)


@pytest.mark.parametrize("value", SENSELESS)
@pytest.mark.parametrize("field", ["value", "percentage_value"])
def test_a_flag_gives_one_plain_value(field, value):
    FlagFactory()

    assert f"featureflag_{field}_plain" in refused(f"UPDATE quotas_featureflag SET {field} = %s", value)


@pytest.mark.parametrize("value", SENSELESS)
def test_so_do_rules_and_variants(alice, value):
    FlagFactory(variants={"a": 1}, rules=[{"user": alice, "value": 1}])

    assert "flagrule_value_plain" in refused("UPDATE quotas_flagrule SET value = %s", value)
    assert "flagvariant_value_plain" in refused("UPDATE quotas_flagvariant SET value = %s", value)


@pytest.mark.parametrize("weight", [0, -1, 10_001])
def test_a_weight_is_positive(weight):
    FlagFactory(variants={"a": 1})

    assert "flagvariant_" in refused("UPDATE quotas_flagvariant SET weight = %s", weight)


@pytest.mark.parametrize("weight", [0, -1, float("nan"), float("inf"), "many", None, 10_001, 1.5])
def test_a_form_says_so(weight):
    variant = FlagVariant(flag=FlagFactory(), name="a", weight=weight, value=1)

    if weight == 1.5:
        # As Django's integer fields do it.
        variant.full_clean()
        assert variant.weight == 1
        return
    with pytest.raises((ValidationError, OverflowError)):
        variant.full_clean()


@pytest.mark.parametrize("percentage", [-0.01, 100.01, "NaN"])
def test_a_percentage_is_one(percentage):
    FlagFactory()

    assert refused("UPDATE quotas_featureflag SET percentage = %s", percentage)


@pytest.mark.parametrize("key", ["", "A", "1a", "a b", "a:b", "a\n", "ä", "a\x01"])
def test_a_key_is_plain_and_there_once(key):
    FlagFactory(key="a")

    assert "featureflag_key_plain" in refused("UPDATE quotas_featureflag SET key = %s", key)
    with pytest.raises(ValidationError):
        FeatureFlag(key=key).full_clean()
    with pytest.raises(ValidationError):
        FeatureFlag(key="a").full_clean()
    with pytest.raises(IntegrityError), transaction.atomic():
        FlagFactory(key="a")


def test_a_rule_is_about_one_thing_and_there_once(alice):
    flag, plan = FlagFactory(), PlanFactory()
    everything = {"user": alice, "plan": plan, "channel": "discord"}
    senseless = [{}, *({name: what for name, what in everything.items() if name != out} for out in everything)]

    for fields in (*senseless, everything):
        rule = FlagRule(flag=flag, value=1, **fields)
        with pytest.raises(ValidationError, match="Name one of user, plan and channel"):
            rule.full_clean()
        with pytest.raises(IntegrityError, match="flagrule_about_one"), transaction.atomic():
            rule.save()
    for name, what in everything.items():
        FlagRule.objects.create(flag=flag, value=1, **{name: what})
        with pytest.raises(IntegrityError, match=f"flagrule_{name}_once"), transaction.atomic():
            FlagRule.objects.create(flag=flag, value=2, **{name: what})


@pytest.mark.parametrize("channel", ["", "Discord", "a b", "a\n"])
def test_a_channel_is_one(channel):
    rule = FlagRule(flag=FlagFactory(), value=1, channel=channel)

    with pytest.raises(IntegrityError, match="flagrule_channel_plain"), transaction.atomic():
        rule.save()


def test_names_of_variants_are_plain_and_there_once():
    flag = FlagFactory(variants={"a": 1, "b": 1})

    assert "flagvariant_name_plain" in refused("UPDATE quotas_flagvariant SET name = 'a:b' WHERE name = 'a'")
    assert "flagvariant_name_once" in refused("UPDATE quotas_flagvariant SET name = 'a'")
    with pytest.raises(IntegrityError, match="flagexposure_users_positive"), transaction.atomic():
        FlagExposure.objects.create(flag=flag, variant="a", day="2026-01-01", users=0)


# What is typed -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("true", True), ("false", False), ("100", 100), ("-2.5", -2.5), ("variant_a", "variant_a"), ('"100"', "100")),
        *(("True", "True"), ('"', '"'), ("a: b", "a: b"), ("1 2", "1 2"), ("9" * 5000 + "x", None), ("1e400", None)),
        *(("NaN", None), ("-Infinity", None), ("null", None), ("[1]", None), ('{"a": 1}', None), ("9" * 5000, None)),
        *((str(LARGEST), LARGEST), (str(LARGEST + 1), None), ('"\\u0000"', None), ('"\\ud800"', None)),
        *(("x" * LONGEST, "x" * LONGEST), ("x" * (LONGEST + 1), None), ("[" * 900, "[" * 900)),
    ],
    ids=lambda text: repr(text)[:20],
)
def test_what_is_typed_becomes_a_value_or_is_refused(text, value):
    if value is None:
        with pytest.raises(ValidationError):
            parse_value(text)
        return
    found = parse_value(text)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("value", [True, 0, -2.5, "a", "100", "true", "", " a ", '"', '"a"', "ä", "null", "1e5", "{}"])
def test_a_value_is_shown_as_one_would_type_it(value):
    check_value(value)
    assert parse_value(typed_value(value)) == value
    assert type(parse_value(typed_value(value))) is type(value)
    FlagFactory(value=value)
    assert FeatureFlag.objects.get().value == value
