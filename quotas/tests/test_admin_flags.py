"""The operators' page of feature flags."""

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import AuditEvent
from quotas.flags import feature
from quotas.models import FeatureFlag, FlagExposure, FlagRule, FlagVariant
from quotas.tests.factories import FlagFactory, PlanFactory
from tests.admin import act, filled_form, messages, page, save

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator(client: Client, olga):
    client.force_login(olga)
    return client


def row(prefix, number=0, **fields):
    return {f"{prefix}-{number}-{name}": value for name, value in fields.items()}


def errors(answer):
    context = answer.context
    found = dict(context["adminform"].form.errors)
    for inline in context["inline_admin_formsets"]:
        for number, of_row in enumerate(inline.formset.errors):
            found |= {f"{inline.formset.prefix}-{number}-{name}": said for name, said in of_row.items()}
        found |= {inline.formset.prefix: inline.formset.non_form_errors()} if inline.formset.non_form_errors() else {}
    return found


def test_a_flag_is_made_with_rules_and_variants_and_audited(operator, alice):
    answer = save(
        operator,
        page(FeatureFlag, "add"),
        key="model_selection",
        value="smollm2",
        percentage="50",
        **{"rules-TOTAL_FORMS": "1", "variants-TOTAL_FORMS": "2"},
        **row("rules", user=str(alice.pk), value="variant_a"),
        **row("variants", name="a", weight="1", value='"100"'),
        **row("variants", 1, name="b", weight="3", value="100"),
    )

    assert answer.status_code == 302, errors(answer)
    flag = FeatureFlag.objects.get()
    assert (flag.value, flag.percentage, flag.percentage_value) == ("smollm2", 50, True)
    assert list(FlagRule.objects.values_list("user_id", "value")) == [(alice.pk, "variant_a")]
    assert list(FlagVariant.objects.values_list("name", "weight", "value")) == [("a", 1, "100"), ("b", 3, 100)]
    event = AuditEvent.objects.get(action="featureflag.created")
    assert event.target_id == str(flag.pk)
    assert f"rules: user {alice.pk}" in event.metadata["fields"]
    assert alice.email not in str(event.metadata)


def test_an_edit_is_audited_and_counts_at_once(operator, alice, django_capture_on_commit_callbacks):
    flag = FlagFactory(key="greeting", value="hello")
    assert feature(alice.pk, "greeting") == "hello"

    with django_capture_on_commit_callbacks(execute=True):
        save(operator, page(flag), value="good day")

    assert feature(alice.pk, "greeting") == "good day"
    assert AuditEvent.objects.get(action="featureflag.updated").metadata == {"fields": ["value"]}


def test_saving_what_is_there_changes_nothing(operator):
    for value in (True, False, 0, 2.5, "text", "100", "true", ' "quoted" '):
        flag = FlagFactory(value=value, percentage="0.01", percentage_value=value, variants={"a": 1, "b": 2})
        FlagRule.objects.create(flag=flag, plan=PlanFactory(), value=value)
        before = [list(model.objects.values()) for model in (FlagRule, FlagVariant)]

        assert save(operator, page(flag)).status_code == 302

        assert [list(model.objects.values()) for model in (FlagRule, FlagVariant)] == before
        found = FeatureFlag.objects.get(pk=flag.pk)
        assert (found.value, found.percentage_value) == (value, value)
        assert type(found.value) is type(value)
    assert not AuditEvent.objects.filter(action="featureflag.updated").exists()


def test_the_key_stays(operator):
    flag = FlagFactory(key="first")

    save(operator, page(flag), key="second")

    assert FeatureFlag.objects.get().key == "first"
    assert "key" not in filled_form(operator, page(flag))


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"key": "A flag"}, "key"),
        ({"key": "taken"}, "key"),
        ({"value": "x" * 1_000_000}, "value"),
        ({"value": "[1]"}, "value"),
        ({"value": "NaN"}, "value"),
        ({"value": ""}, "value"),
        ({"value": "a\0b"}, "value"),
        ({"percentage": "101"}, "percentage"),
        ({"percentage": "NaN"}, "percentage"),
        ({"percentage": "0.001"}, "percentage"),
        (row("variants", weight="0"), "variants-0-weight"),
        (row("variants", weight="-1"), "variants-0-weight"),
        (row("variants", weight="NaN"), "variants-0-weight"),
        (row("variants", weight="1.5"), "variants-0-weight"),
        (row("variants", name="a:b"), "variants-0-name"),
        (row("variants", 1, name="a", value="1", weight="1"), "variants"),
        (row("rules", value="1"), "rules-0-__all__"),
        (row("rules", value="1", channel="Discord"), "rules-0-channel"),
        (row("rules", value="1", user="00000000-0000-0000-0000-000000000000"), "rules-0-user"),
        ({**row("rules", value="1", channel="a"), **row("rules", 1, value="2", channel="a")}, "rules"),
    ],
)
def test_what_cannot_be_is_refused_at_its_field(operator, fields, field):
    FlagFactory(key="taken")
    good = {"key": "new", "value": "1", **row("variants", name="a", weight="1", value="1")}
    rules = sum(f"rules-{number}-value" in fields for number in range(2))
    variants = 2 if "variants-1-name" in fields else 1
    totals = {"rules-TOTAL_FORMS": str(rules), "variants-TOTAL_FORMS": str(variants)}

    answer = save(operator, page(FeatureFlag, "add"), **good | totals | fields)

    assert answer.status_code == 200
    assert field in errors(answer)
    assert FeatureFlag.objects.count() == 1


def test_the_page_shows_how_many_got_each_variant(operator):
    flag = FlagFactory(percentage="12.50", variants={"a": 1, "b": 3})
    today = timezone.now().date()
    for days, variant, users in ((0, "a", 10), (1, "a", 20), (1, "b", 90), (40, "b", 5000)):
        FlagExposure.objects.create(flag=flag, variant=variant, day=today - timedelta(days=days), users=users)

    listed = operator.get(page(FeatureFlag, "changelist")).content.decode()
    shown = operator.get(page(flag)).content.decode()

    for text in (flag.key, "12.5 %", "a 1 · b 3", "120"):
        assert text in listed
    assert "30 of 120 (25.0 %)" in shown
    assert "90 of 120 (75.0 %)" in shown


def test_who_gets_what(operator, alice, bob):
    flag = FlagFactory(value=1, percentage=100, variants={"a": 1}, rules=[{"user": alice, "value": "100"}])
    FlagRule.objects.create(flag=flag, channel="discord", value=False)

    def said(**fields):
        return messages(act(operator, flag, "who_gets_what", **fields), operator)

    assert said(email="Alice@example.com") == ['alice@example.com gets "100": a rule names this user.']
    assert said(email="bob@example.com", channel="discord") == ["bob@example.com gets false: a rule names the channel."]
    [drawn] = said(email="bob@example.com")
    assert drawn == "bob@example.com gets a (variant a): within the percentage, and drawn for this variant."


def test_who_gets_what_of_a_flag_that_is_off_and_of_nobody(operator, alice):
    flag = FlagFactory(is_active=False)

    [said] = messages(act(operator, flag, "who_gets_what", email=alice.email), operator)
    refused = act(operator, flag, "who_gets_what", email="nobody@example.com")

    assert said.startswith("alice@example.com gets nothing: the flag is off")
    assert "No user has this address." in refused.content.decode()


def test_a_flag_can_be_deleted(operator, django_capture_on_commit_callbacks, alice):
    flag = FlagFactory(value=1)
    assert feature(alice.pk, flag.key) == 1

    with django_capture_on_commit_callbacks(execute=True):
        operator.post(page(flag, "delete"), {"post": "yes"})

    assert feature(alice.pk, flag.key) is None
    assert AuditEvent.objects.filter(action="featureflag.deleted").exists()
