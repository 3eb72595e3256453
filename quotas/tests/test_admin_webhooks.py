"""What operators see of events and webhooks, and what they do with them."""

import re
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from accounts.models import AuditEvent
from accounts.tests.factories import UserFactory
from quotas.models import Event, WebhookDelivery, WebhookEndpoint
from quotas.tests.factories import DeliveryFactory, EndpointFactory, EventFactory
from tests.admin import act, messages, page, save


@pytest.fixture
def operator(client, olga):
    client.force_login(olga)
    return client


def audited():
    return list(AuditEvent.objects.order_by("id").values_list("action", flat=True))


def test_a_new_endpoint_shows_its_secret_once_and_keeps_it_encrypted(operator):
    shown = save(
        operator, page(WebhookEndpoint, "add"), url="https://example.com/hooks", event_types=["quota.limit_reached"]
    )

    endpoint = WebhookEndpoint.objects.get()
    assert endpoint.event_types == ["quota.limit_reached"]
    assert re.fullmatch(r"whsec_[A-Za-z0-9+/]{32}", endpoint.secret)
    assert f'value="{endpoint.secret}"' in shown.content.decode()
    for address in (page(endpoint), page(WebhookEndpoint, "changelist"), page(endpoint, "rotate_secret")):
        assert endpoint.secret not in operator.get(address).content.decode()
    with connection.cursor() as cursor:
        cursor.execute("SELECT secret FROM quotas_webhookendpoint")
        assert endpoint.secret not in cursor.fetchone()[0]
    assert audited() == ["webhookendpoint.created"]
    assert endpoint.secret not in str(AuditEvent.objects.values())


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "ftp://example.com"},
        {"url": "example.com"},
        {"url": "http://user:s3cretpw@example.com/hooks"},
        {"url": "https://user@example.com/hooks"},
        {"url": "https://example.com:99999/hooks"},
        {"url": "https://example.com:0/hooks"},
        {"event_types": ["quota.unheard_of"]},
    ],
)
def test_what_is_no_endpoint_is_refused(operator, wrong):
    answer = save(operator, page(WebhookEndpoint, "add"), **{"url": "https://example.com/hooks"} | wrong)

    assert answer.context["adminform"].form.errors.keys() == wrong.keys()
    assert not WebhookEndpoint.objects.exists()


def test_a_rotation_asks_first_and_shows_the_new_secret_once(operator):
    endpoint = EndpointFactory()
    former = endpoint.secret
    operator.get(page(endpoint, "rotate_secret"))
    assert WebhookEndpoint.objects.get().secret == former

    shown = operator.post(page(endpoint, "rotate_secret")).content.decode()

    endpoint.refresh_from_db()
    assert (endpoint.secret != former, endpoint.previous_secret) == (True, former)
    assert endpoint.secret in shown
    assert former not in shown
    assert "the one before signs too until" in operator.get(page(endpoint)).content.decode()
    assert audited() == ["webhook_endpoint.secret_rotated"]


def test_an_endpoint_that_was_switched_off_is_switched_on_again(operator):
    endpoint = EndpointFactory(is_active=False, disabled_reason="Answered 410: it does not want events any more.")
    assert "Answered 410" in operator.get(page(endpoint)).content.decode()

    save(operator, page(endpoint), is_active="on")

    endpoint.refresh_from_db()
    assert (endpoint.is_active, endpoint.disabled_reason) == (True, "")
    assert audited() == ["webhookendpoint.updated"]


def test_a_test_event_is_put_on_its_way(operator):
    endpoint = EndpointFactory()

    answer = act(operator, endpoint, "send_test")

    assert messages(answer, operator) == ["A test event is on its way."]
    delivery = WebhookDelivery.objects.get(endpoint=endpoint, status="pending")
    assert (delivery.event.type, delivery.event.user) == ("webhook.test", None)
    assert audited() == ["webhook_endpoint.tested"]


@pytest.mark.parametrize("status", ["pending", "dead", None])
def test_nothing_is_promised_to_an_endpoint_that_is_off(operator, status):
    later = timezone.now() + timedelta(hours=1)
    endpoint = EndpointFactory(is_active=False)
    delivery = DeliveryFactory(endpoint=endpoint, status=status, next_attempt_at=later) if status else None

    answer = act(operator, delivery, "replay") if delivery else act(operator, endpoint, "send_test")

    assert messages(answer, operator) == ["This endpoint is switched off: nothing is sent to it. Switch it on first."]
    assert list(WebhookDelivery.objects.values_list("status", "next_attempt_at")) == (
        [(status, later)] if status else []
    )
    assert audited() == []


def test_a_delivery_shows_what_went_wrong_and_what_is_sent_and_is_replayed(operator, alice):
    delivery = DeliveryFactory(event__user=alice, event__payload={"resource": "llm"})
    seen = operator.get(page(delivery)).content.decode()
    assert "Answered 500." in seen
    assert str(alice.pk) in seen
    assert page(delivery.event) in seen

    answer = act(operator, delivery, "replay")

    assert messages(answer, operator) == ["It is on its way."]
    delivery.refresh_from_db()
    assert (delivery.status, delivery.attempts) == ("pending", 0)
    again = act(operator, delivery, "replay")
    assert messages(again, operator) == ["This delivery is due already, and goes out within seconds."]
    assert audited() == ["webhook_delivery.replayed"]


def test_all_dead_deliveries_of_an_endpoint_are_replayed(operator):
    dead = DeliveryFactory()
    DeliveryFactory(endpoint=dead.endpoint)
    other = DeliveryFactory()
    assert "0 on their way, 2 given up" in operator.get(page(dead.endpoint)).content.decode()

    answer = act(operator, dead.endpoint, "replay_dead")

    assert messages(answer, operator) == ["2 deliveries to be sent again."]
    assert list(WebhookDelivery.objects.dead()) == [other]


def test_the_list_of_deliveries_is_filtered_by_status_and_endpoint(operator):
    dead, other = DeliveryFactory(), DeliveryFactory(status="pending")

    def listed(**query):
        return set(operator.get(page(WebhookDelivery, "changelist"), query).context["cl"].result_list)

    assert listed(status__exact="dead") == {dead}
    assert listed(endpoint__id__exact=str(other.endpoint_id)) == {other}
    assert listed(q=str(dead.event_id)) == {dead}


def test_who_sees_no_webhooks_sees_events_without_them(client, operator):
    delivery = DeliveryFactory()
    event = delivery.event
    assert delivery.endpoint.url in operator.get(page(event)).content.decode()
    helper = UserFactory(is_staff=True)
    helper.groups.add(*helper.groups.model.objects.filter(name="support"))
    client.force_login(helper)

    seen = client.get(page(event)).content.decode()

    assert "limit reached" in seen
    assert delivery.endpoint.url not in seen
    assert client.get(page(delivery)).status_code == 403


def test_events_are_listed_with_what_they_are_about(operator):
    EventFactory(payload={"resource": "llm", "unit": "cost", "limit": 5_000_000, "usage": 4_000_000})
    Event.objects.create(type="webhook.test")
    Event.objects.create(
        type="subscription.changed", payload={"plan": "gold", "status": "past_due", "is_suspended": True}
    )

    html = operator.get(page(Event, "changelist")).content.decode()

    assert "llm.cost: $4.00 of $5.00" in html
    assert "gold: past_due, suspended" in html
    assert "test of an endpoint" in html
