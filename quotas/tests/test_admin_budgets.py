"""Budgets on the admin pages of API keys."""

import pytest
from django.contrib.auth.models import Permission

from accounts.models import ApiKey, AuditEvent
from accounts.tests.credentials import api_key
from quotas.models import Quota
from quotas.tests.factories import QuotaFactory
from tests.admin import act, messages, page


@pytest.fixture
def operator(client, olga):
    client.force_login(olga)
    return client


@pytest.fixture
def key(alice):
    api_key(alice)
    return ApiKey.objects.get()


def budgets(key):
    return {str(row): row.base_limit for row in Quota.objects.of_key(key.pk)}


def test_they_are_set_with_a_reason(operator, olga, alice, key):
    answer = act(operator, key, "set_budgets", budgets="llm.tokens day 50000\n\n  llm.cost  month 7 \n", reason="Bot")

    assert messages(answer, operator) == [f"The budgets of {key} are set."]
    assert budgets(key) == {"llm.cost a month": 7, "llm.tokens a day": 50_000}
    assert set(Quota.objects.values_list("user", flat=True)) == {alice.pk}
    event = AuditEvent.objects.get(action="api_key.budgets_changed")
    assert (event.actor_id, event.target_id, event.metadata["reason"]) == (olga.pk, str(key.pk), "Bot")


def test_the_dialog_begins_with_what_there_is_and_no_line_takes_all_away(operator, key):
    act(operator, key, "set_budgets", budgets="llm.tokens day 50000", reason="r")

    assert "llm.tokens day 50000</textarea>" in operator.get(page(key, "set_budgets")).content.decode()
    act(operator, key, "set_budgets", budgets="", reason="r")

    assert budgets(key) == {}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("llm.tokens 50000", "is not a meter, a period and a limit"),
        ("llm.bananas day 5", "there is no meter llm.bananas"),
        ("tokens day 5", "there is no meter tokens"),
        ("llm.tokens fortnight 5", "there is no period fortnight"),
        ("llm.tokens day 0", "a limit is a whole number"),
        ("llm.tokens day -5", "a limit is a whole number"),
        ("llm.tokens day 5e3", "a limit is a whole number"),
        (f"llm.tokens day {2**63}", "a limit is a whole number"),
        ("llm.tokens day 5\nllm.tokens day 6", "Two lines are about the same"),
        ("llm.tokens day 5\n" * 21, "at most 20 budgets"),
    ],
)
def test_a_line_that_says_nothing_is_explained(operator, key, text, complaint):
    QuotaFactory(user=key.user, api_key=key, limit=8)

    answer = act(operator, key, "set_budgets", budgets=text, reason="r")

    assert answer.status_code == 200
    assert complaint in answer.content.decode()
    assert budgets(key) == {"llm.requests a month": 8}


def test_a_reason_is_needed(operator, key):
    assert 'class="errors' in act(operator, key, "set_budgets", budgets="llm.tokens day 5").content.decode()
    assert budgets(key) == {}


def test_they_are_drawn_on_the_keys_page_and_are_not_among_the_quotas(operator, key):
    QuotaFactory(user=key.user, limit=777)
    budget = QuotaFactory(user=key.user, api_key=key, limit=1000, current_usage=250, held=50)

    assert "250 of 1,000, 50 held" in operator.get(page(key)).content.decode()
    listed = operator.get(page(Quota, "changelist")).content.decode()
    assert "777" in listed
    assert "250 of 1,000" not in listed
    assert operator.post(page(budget, "reset_usage"), {"_form_submitted": "on", "reason": "r"}).status_code == 404


def test_who_may_not_change_quotas_may_not_set_them(client, alice, key):
    alice.is_staff = True
    alice.save()
    alice.user_permissions.set(Permission.objects.filter(codename__in=["view_apikey", "change_apikey", "view_quota"]))
    client.force_login(alice)

    assert client.get(page(key)).status_code == 200
    answer = client.post(
        page(key, "set_budgets"), {"_form_submitted": "on", "budgets": "llm.cost day 1", "reason": "r"}
    )

    assert answer.status_code in {302, 403}
    assert budgets(key) == {}
