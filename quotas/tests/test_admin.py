"""Quotas and reservations in the admin: each change has its reason and its audit event."""

from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.exceptions import InvalidInput
from accounts.models import AuditEvent
from accounts.tests.factories import UserFactory
from quotas import services
from quotas.admin.display import amounts, bar, dollars
from quotas.meters import Meter
from quotas.models import Quota, Reservation
from quotas.tests.factories import QuotaFactory
from tests.admin import act, messages, page


@pytest.fixture
def operator(client, olga):
    client.force_login(olga)
    return client


def event(action):
    return AuditEvent.objects.get(action=action)


def test_a_limit_is_changed_with_a_reason(operator, olga):
    quota = QuotaFactory(limit=100, current_usage=30)

    answer = act(operator, quota, "change_limit", limit="250", reason="Agreement of May")

    quota.refresh_from_db()
    assert (quota.base_limit, quota.limit, quota.current_usage) == (250, 250, 30)
    changed = event("quota.limit_changed")
    assert (changed.actor_id, changed.target_id, changed.ip) == (olga.pk, str(quota.pk), "127.0.0.1")
    assert changed.metadata == {"former": 100, "limit": 250, "reason": "Agreement of May"}
    assert messages(answer, operator) == [f"{quota.user}: llm.requests a month is limited to 250."]


def test_extra_is_granted_with_a_reason(operator, olga):
    quota = QuotaFactory(limit=100, current_usage=100)

    act(operator, quota, "grant_extra", amount="50", reason="Sorry")

    quota.refresh_from_db()
    assert (quota.base_limit, quota.limit) == (100, 150)
    assert event("quota.granted").metadata == {"amount": 50, "expires_at": None, "reason": "Sorry"}
    assert event("quota.granted").actor_id == olga.pk


def test_usage_is_reset_with_a_reason_and_holds_stay(operator):
    quota = QuotaFactory(limit=100, current_usage=60, held=10)

    act(operator, quota, "reset_usage", reason="A wrong count")

    quota.refresh_from_db()
    assert (quota.current_usage, quota.held) == (0, 10)
    assert event("quota.usage_reset").metadata == {"former": 60, "reason": "A wrong count"}


@pytest.mark.parametrize(
    ("action", "fields", "error"),
    [
        ("change_limit", {"limit": "5", "reason": ""}, "reason"),
        ("change_limit", {"limit": "-1", "reason": "r"}, "limit"),
        ("change_limit", {"limit": "1e99", "reason": "r"}, "limit"),
        ("change_limit", {"limit": str(10**16), "reason": "r"}, "limit"),
        ("grant_extra", {"amount": "0", "reason": "r"}, "amount"),
        ("grant_extra", {"amount": "", "reason": "r"}, "amount"),
        ("reset_usage", {"reason": "  "}, "reason"),
    ],
)
def test_a_dialog_explains_what_it_cannot_do(operator, action, fields, error):
    quota = QuotaFactory(limit=100, current_usage=60)

    answer = act(operator, quota, action, **fields)

    assert answer.status_code == 200
    assert 'class="errors' in answer.content.decode()
    assert "HX-Redirect" not in answer.headers
    quota.refresh_from_db()
    assert (quota.base_limit, quota.limit, quota.current_usage) == (100, 100, 60)
    assert not AuditEvent.objects.exists()


def test_what_a_service_refuses_after_the_dialog_is_a_message(operator, monkeypatch):
    def refuse(**_arguments):
        raise InvalidInput("Not today.")

    monkeypatch.setattr(services, "grant", refuse)

    answer = act(operator, QuotaFactory(), "grant_extra", amount="5", reason="r")

    assert messages(answer, operator) == ["Not today."]


def test_a_dialog_shows_the_quota_as_it_stands(operator):
    quota = QuotaFactory(limit=1000, base_limit=900, granted=100, current_usage=250, held=5)

    html = operator.get(page(quota, "change_limit")).content.decode()

    assert "250 of 1,000, 5 held" in html
    assert str(quota.user) in html
    assert 'value="900"' in html


def test_a_dialog_of_a_quota_that_is_gone_is_not_found(operator):
    quota = QuotaFactory()
    address = page(quota, "change_limit")
    quota.delete()

    assert operator.post(address, {"_form_submitted": "on", "limit": "1", "reason": "r"}).status_code == 404


def test_a_dialog_goes_back_to_where_it_was_opened_but_never_elsewhere(operator):
    quota = QuotaFactory()
    fields = {"_form_submitted": "on", "amount": "1", "reason": "r"}

    def leads_to(**headers):
        answer = operator.post(page(quota, "grant_extra"), fields, headers=headers)
        return answer.headers.get("HX-Redirect") or answer.headers["Location"]

    listed = page(Quota, "changelist")
    assert leads_to(**{"HX-Current-URL": f"http://testserver{listed}?q=a"}) == f"{listed}?q=a"
    assert leads_to(**{"HX-Current-URL": f"https://evil.example{listed}"}).startswith(listed)
    assert leads_to(**{"HX-Current-URL": "https://evil.example/"}) == listed
    assert leads_to() == listed


def test_quotas_are_drawn_as_bars(operator):
    QuotaFactory(limit=1000, current_usage=250, held=50)

    html = operator.get(page(Quota, "changelist")).content.decode()

    assert 'data-level="calm"' in html
    assert "width:25.0%" in html
    assert "width:5.0%" in html
    assert "250 of 1,000, 50 held" in html


@pytest.mark.parametrize(
    ("used", "held", "limit", "level", "width"),
    [
        (0, 0, 100, "calm", "0.0%"),
        (79, 0, 100, "calm", "79.0%"),
        (79, 1, 100, "warn", "79.0%"),
        (100, 0, 100, "full", "100.0%"),
        (0, 0, 0, "full", "0.0%"),
        (150, 50, 100, "full", "75.0%"),
    ],
)
def test_a_bar_warns_and_never_leaves_its_track(used, held, limit, level, width):
    drawn = bar(used=used, held=held, limit=limit, unit="tokens")

    assert f'data-level="{level}"' in drawn
    assert f'<i style="width:{width}">' in drawn


def test_quotas_are_filtered_by_state_and_sorted_by_share(operator, alice):
    for unit, fields in {
        "requests": {"current_usage": 100},
        "tokens": {"current_usage": 85},
        "seconds": {"held": 1},
        "bytes": {"base_limit": 50, "granted": 50},
    }.items():
        QuotaFactory(user=alice, unit=unit, limit=100, **fields)

    def listed(**query):
        return [quota.unit for quota in operator.get(page(Quota, "changelist"), query).context["cl"].result_list]

    assert listed(state="full") == ["requests"]
    assert sorted(listed(state="warned")) == ["requests", "tokens"]
    assert listed(state="held") == ["seconds"]
    assert listed(state="granted") == ["bytes"]
    assert listed(o="-3")[:2] == ["requests", "tokens"]
    assert len(listed(q="alice@")) == 4
    assert listed(q="bob@") == []


# Reservations and amounts


def test_a_reservation_shows_what_it_holds_and_charged(operator, alice):
    QuotaFactory(user=alice, unit="tokens", limit=5000)
    hold = services.reserve(user_id=alice.pk, amounts={Meter("llm", "tokens"): 1200}, seconds=60)
    reservation = Reservation.objects.get(pk=hold.id)

    assert "1,200 llm.tokens" in operator.get(page(reservation)).content.decode()
    services.settle(reservation_id=hold.id, used={Meter("llm", "tokens"): 800})
    assert "800 llm.tokens" in operator.get(page(Reservation, "changelist")).content.decode()


def test_expired_and_held_reservations_are_told_apart(operator):
    now = timezone.now()
    for status, settled in (("held", None), ("expired", now)):
        Reservation.objects.create(
            user=UserFactory(), status=status, amounts={}, holds={}, settled_at=settled, expires_at=now + timedelta(1)
        )

    for status in ("held", "expired"):
        listed = operator.get(page(Reservation, "changelist"), {"status__exact": status}).context["cl"].result_list
        assert [row.status for row in listed] == [status]


@pytest.mark.parametrize(
    ("micro", "text"),
    [(0, "$0.00"), (1, "$0.000001"), (150_000, "$0.15"), (1_043, "$0.001043"), (1_234_500_000, "$1,234.50")],
)
def test_money_is_shown_in_dollars(micro, text):
    assert dollars(micro) == text


def test_amounts_are_shown_in_one_line():
    assert amounts({"llm.tokens": 1200, "llm.cost": 2_500_000}) == "$2.50 llm.cost, 1,200 llm.tokens"
    assert amounts(None) == "-"
