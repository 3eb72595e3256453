"""The pages of a quota, of its grants and of its user: what is drawn there, and what is done from there."""

from datetime import timedelta

import pytest
import time_machine
from django.urls import reverse
from django.utils import timezone

from accounts.models import AuditEvent
from accounts.tests.factories import UserFactory
from quotas import services
from quotas.admin.quota_page import limit_note, quota_bar
from quotas.meters import Meter
from quotas.models import Grant, Plan, Quota, Reservation
from quotas.tests.factories import QuotaFactory
from tests.admin import act, messages, page

REQUESTS = Meter("llm", "requests")


@pytest.fixture(autouse=True)
def noon():
    """Far from the day's end, when quotas begin anew."""
    with time_machine.travel(timezone.now().replace(hour=12)):
        yield


@pytest.fixture
def operator(client, olga):
    client.force_login(olga)
    return client


@pytest.fixture
def quota(alice, olga):
    """5,000 requests a day of the plan, and two grants."""
    services.change_plan(user_id=alice.pk, plan=Plan.objects.get(slug="pro"), by=olga)
    quota = Quota.objects.get(user=alice, resource_type="llm", unit="requests")
    services.grant(quota=quota, amount=1000, by=olga, expires_at=timezone.now() + timedelta(minutes=1), reason="Outage")
    services.grant(quota=quota, amount=500, by=olga, reason="Ticket 7")
    return quota


def event(action):
    return AuditEvent.objects.get(action=action)


def use(user, amount):
    services.consume(user_id=user.pk, amounts={REQUESTS: amount})


# What is drawn ---------------------------------------------------------------------------------------------------


def test_a_quota_shows_where_its_limit_comes_from(operator, quota, alice):
    use(alice, 1200)

    context = operator.get(page(quota)).context

    assert context["numbers"] == [
        *(("Used", "1,200"), ("Held", "0"), ("Left", "5,300"), ("Limit", "6,500")),
        *(("Granted of it", "1,500"), ("Warning at 80 %", "5,200")),
    ]
    assert '<u style="left:80.0%">' in context["bar"]
    base, expiring, lasting = context["pools"]["rows"]
    assert base[0] == "Plan Pro"
    assert "200 of 5,000" in base[1]
    assert "1,000 of 1,000" in expiring[1]
    assert (expiring[3], expiring[4]) == ("Outage", "")
    assert ("0 of 500" in lasting[1], lasting[2]) == (True, "never")
    assert page(Grant.objects.first(), "revoke") in lasting[4]
    # Looking writes nothing.
    assert set(Grant.objects.values_list("spent", "closed_at")) == {(0, None)}


@pytest.mark.parametrize(
    ("change", "source"),
    [
        ({"is_override": True}, "agreed with this user</span> plan Pro: 5,000"),
        ({"is_override": True, "unit": "bytes"}, "agreed with this user</span> not in plan Pro"),
        ({"unit": "bytes"}, "Not in plan Pro"),
    ],
)
def test_a_limit_is_the_plans_or_agreed(operator, quota, change, source):
    Quota.objects.filter(pk=quota.pk).update(**change)
    shown = " ".join(operator.get(page(quota)).context["pools"]["rows"][0][0].split())
    assert source in shown.replace(" </span>", "</span>")


def test_a_period_that_is_over_is_shown_as_begun_anew(client, quota, alice, olga):
    use(alice, 1300)

    with time_machine.travel(timezone.now() + timedelta(days=1)):
        client.force_login(olga)
        context, html = client.get(page(quota)).context, client.get(page(alice)).content.decode()

    assert context["numbers"][0] == ("Used", "0")
    base, lasting = context["pools"]["rows"]
    assert ("0 of 5,000" in base[1], "0 of 500 " in lasting[1], "0 of 5,500" in html) == (True, True, True)


def test_a_quota_shows_what_holds_it_with_a_link_to_the_request(operator, quota, alice):
    holds = [
        services.reserve(user_id=alice.pk, amounts={REQUESTS: n}, seconds=600, by_client=n == 40) for n in (120, 40)
    ]
    services.release(reservation_id=services.reserve(user_id=alice.pk, amounts={REQUESTS: 7}, seconds=60).id)

    call, client_hold = operator.get(page(quota)).context["holds"]["rows"]

    assert page(Reservation.objects.get(pk=holds[0].id)) in call[0]
    assert "120 of 160 (75.0 %)" in call[1]
    assert "40 of 160" in client_hold[1]
    assert client_hold[4] == "held over the API"
    address = f"{reverse('admin:inference_request_changelist')}?reservation__id__exact={holds[0].id}"
    assert address in call[4]
    assert address in operator.get(page(Reservation.objects.get(pk=holds[0].id))).content.decode()


def test_a_user_shows_all_quotas_as_bars(operator, quota, alice, olga):
    services.reserve(user_id=alice.pk, amounts={REQUESTS: 60}, seconds=600)
    services.set_limit(quota=Quota.objects.get(user=alice, unit="tokens", resource_type="llm"), limit=9, by=olga)

    html = operator.get(page(alice)).content.decode()

    assert "0 of 6,500, 60 held" in html
    assert html.count('class="usage-bar"') == Quota.objects.filter(user=alice).count() > 3
    assert ("0 of 9<" in html, "1 open hold<" in html) == (True, True)
    assert "None yet" in operator.get(page(UserFactory())).content.decode()


# What is done ----------------------------------------------------------------------------------------------------


def test_a_grant_expires_when_it_should(operator, quota):
    tomorrow = (timezone.now() + timedelta(days=1)).replace(second=0, microsecond=0)

    answer = act(operator, quota, "grant_extra", amount="7", expires_at=f"{tomorrow:%Y-%m-%dT%H:%M}", reason="r")

    assert Grant.objects.latest("id").expires_at == tomorrow
    assert messages(answer, operator)[0].endswith(f"llm.requests a day has 7 more until {tomorrow:%Y-%m-%d %H:%M}.")
    for wrong in ("2020-01-01T10:00", "soon"):
        refused = act(operator, quota, "grant_extra", amount="7", expires_at=wrong, reason="r")
        assert 'class="errors' in refused.content.decode()
    assert Grant.objects.count() == 3


def test_what_is_left_of_a_grant_is_taken_back_with_a_reason(operator, quota, alice, olga):
    grant = Grant.objects.get(amount=1000)
    use(alice, 400)
    assert "400 of 1,000" in operator.get(page(grant, "revoke")).content.decode()

    act(operator, grant, "revoke", reason="A mistake")

    grant.refresh_from_db()
    quota.refresh_from_db()
    assert (grant.spent, grant.closed_at is not None, quota.limit) == (400, True, 5900)
    revoked = event("quota.grant_revoked")
    assert (revoked.actor_id, revoked.metadata) == (olga.pk, {"amount": 600, "reason": "A mistake"})
    assert operator.get(page(grant, "revoke")).status_code == 403


def test_grants_are_filtered_by_what_became_of_them(operator, quota, alice, olga):
    services.grant(quota=quota, amount=3, by=olga, expires_at=timezone.now() + timedelta(seconds=30))
    use(alice, 3)
    services.revoke_grant(grant=Grant.objects.get(amount=500), by=olga)
    use(alice, 100)

    def listed(**query):
        rows = operator.get(page(Grant, "changelist"), query).context["cl"].result_list
        return [(grant.amount, grant.spent) for grant in rows]

    assert listed(state="open") == [(1000, 100)]
    assert listed(state="revoked") == [(500, 0)]
    assert listed(state="spent") == [(3, 3)]
    assert listed(q="Ticket") == [(500, 0)]
    assert listed(quota__user__id__exact=str(olga.pk)) == []
    with time_machine.travel(timezone.now() + timedelta(minutes=2)):
        assert listed(state="expired") == [(1000, 100)]
        assert listed(state="open") == []


def test_an_agreed_limit_is_given_up(operator, quota):
    assert operator.get(page(quota, "clear_override")).status_code == 403
    act(operator, quota, "change_limit", limit="70", reason="May")
    assert operator.get(page(Quota, "changelist"), {"state": "overridden"}).context["cl"].result_count == 1

    act(operator, quota, "clear_override", reason="June")

    quota.refresh_from_db()
    assert (quota.is_override, quota.base_limit) == (False, 5000)
    assert event("quota.override_cleared").metadata == {"former": 70, "reason": "June"}


def test_a_quota_is_added_beside_the_plan_and_goes_again(operator, alice, olga):
    new = {"resource": "llm", "unit": "cost", "period": "day", "limit": "2500000"}

    answer = act(operator, alice, "add_quota", **new, reason="Agreement")

    assert messages(answer, operator) == ["alice@example.com has a quota of llm.cost a day now."]
    added = Quota.objects.get(user=alice, unit="cost")
    assert (added.limit, added.is_override, event("quota.added").actor_id) == (2_500_000, True, olga.pk)
    twice = act(operator, alice, "add_quota", **new, reason="Agreement")
    assert messages(twice, operator) == ["There is a quota of llm.cost a day already."]
    gone = act(operator, added, "clear_override", reason="Over")
    assert gone.headers["HX-Redirect"] == page(alice)
    assert not Quota.objects.filter(pk=added.pk).exists()


def test_a_bar_marks_its_warning():
    quota = QuotaFactory.build(limit=100, current_usage=150, overage_allowed=True, soft_threshold=60)
    assert '<u style="left:40.0%">' in quota_bar(quota)
    assert "let through" in limit_note(quota)
