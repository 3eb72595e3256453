"""Sending webhooks: to a real receiver, signed, tried again, given up, and sent again."""

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest
import time_machine
from django.conf import settings as project
from django.db import IntegrityError
from django.utils import timezone

from accounts.models import AuditEvent
from accounts.tests.factories import UserFactory
from quotas import deliveries, events, webhooks
from quotas.models import Event, WebhookDelivery, WebhookEndpoint
from quotas.services import consume
from quotas.tests.factories import QuotaFactory
from quotas.tests.receiver import Receiver
from quotas.tests.test_thresholds import REQUESTS

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
SCHEDULE = [5, 30, 120, 600, 1800, 7200, 21600, 43200, 86400]

pytestmark = pytest.mark.django_db(transaction=True)


def documented(name):
    """A function as the guide for receivers has it."""
    guide = (Path(project.BASE_DIR) / "docs" / "webhooks.md").read_text()
    found = {}
    exec(re.search(r"```python\n(.*?)```", guide, re.DOTALL)[1], found)
    return found[name]


is_genuine = documented("is_genuine")


@pytest.fixture(scope="module")
def shared_receiver():
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def receiver(shared_receiver):
    shared_receiver.received, shared_receiver.status, shared_receiver.headers = [], 200, {}
    shared_receiver.released.clear()
    return shared_receiver


@pytest.fixture
def endpoint(receiver):
    return WebhookEndpoint.objects.create(url=f"{receiver.url}/hooks")


@pytest.fixture
def operator():
    return UserFactory(is_staff=True, is_superuser=True)


@pytest.fixture
def clock():
    with time_machine.travel(NOON, tick=False) as clock:
        yield clock


def happen(user_id=None, **payload):
    """Something that everybody is told of."""
    event = events.emit(type=Event.Type.SUBSCRIPTION_CHANGED, user_id=user_id, payload=payload)
    events.dispatch(mail=lambda event: None)
    return event


def delivery():
    return WebhookDelivery.objects.get()


def wait_until(true):
    deadline = time.monotonic() + 15
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def state():
    row = delivery()
    return row.status, row.attempts, row.last_status_code, row.last_error


# One attempt ---------------------------------------------------------------------------------------------------------


def test_a_crossing_arrives_signed_and_whole(receiver, endpoint):
    user = UserFactory()
    quota = QuotaFactory(user=user, limit=10)
    consume(user_id=user.pk, amounts={REQUESTS: 8})
    events.dispatch(mail=lambda event: None)

    assert deliveries.deliver_due() == 1

    event = Event.objects.get()
    (post,) = receiver.received
    body = json.loads(post.body)
    assert post.path == "/hooks"
    assert post.headers["content-type"] == "application/json"
    assert post.headers["webhook-id"] == body["id"] == str(event.pk)
    assert body["type"] == "quota.soft_limit_reached"
    assert body["created_at"] == event.created_at.isoformat().replace("+00:00", "Z")
    assert body["data"] == {
        "user_id": str(user.pk),
        "resource": "llm",
        "unit": "requests",
        "period": "month",
        "threshold": 80,
        "limit": 10,
        "usage": 8,
        "held": 0,
        "left": 2,
        "refused": False,
        "overage_allowed": False,
        "api_key_id": None,
        "reset_date": quota.reset_date.isoformat().replace("+00:00", "Z"),
    }
    assert is_genuine(endpoint.secret, post.headers, post.body)
    assert not is_genuine(endpoint.secret, post.headers, post.body + b" ")
    assert not is_genuine("whsec_" + "A" * 32, post.headers, post.body)
    assert is_genuine(endpoint.secret, {name.title(): value for name, value in post.headers.items()}, post.body)
    for name, wrong in (
        ("webhook-id", None),
        ("webhook-timestamp", None),
        ("webhook-timestamp", "soon"),
        ("webhook-timestamp", "²"),
        ("webhook-timestamp", "9" * 5000),
        ("webhook-signature", None),
        ("webhook-signature", "v1,é"),
    ):
        headers = post.headers | {name: wrong}
        assert not is_genuine(endpoint.secret, {key: value for key, value in headers.items() if value}, post.body)
    assert state() == ("delivered", 1, 200, "")
    assert deliveries.deliver_due() == 0


@pytest.mark.parametrize(
    ("stored", "sent"),
    [
        ("2026-03-10T13:00:00+00:00", "2026-03-10T13:00:00Z"),
        ("2026-03-10T13:00:00.5+02:00", "2026-03-10T11:00:00.500000Z"),
        (None, None),
    ],
)
def test_the_end_of_a_period_is_written_as_all_other_times(stored, sent):
    event = Event(type=Event.Type.SUBSCRIPTION_CHANGED, payload={"current_period_end": stored})

    assert orjson.loads(deliveries.message(event))["data"]["current_period_end"] == sent


def test_the_signature_is_that_of_the_specification():
    """The example in the specification's own libraries."""
    signed = deliveries.signature(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        message_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp=1614265330,
        body=b'{"test": 2432232314}',
    )

    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_for_a_day_after_a_rotation_both_secrets_sign(receiver, endpoint, operator):
    former = endpoint.secret
    happen()

    secret = webhooks.rotate_secret(endpoint_id=endpoint.pk, by=operator)
    deliveries.deliver_due()
    WebhookEndpoint.objects.update(previous_expires_at=timezone.now())
    webhooks.replay(delivery_id=delivery().pk, by=operator)
    deliveries.deliver_due()

    genuine = [[is_genuine(one, post.headers, post.body) for one in (secret, former)] for post in receiver.received]
    assert genuine == [[True, True], [True, False]]
    assert len({endpoint.secret, secret}) == 2


@pytest.mark.parametrize(
    ("status", "error"), [(202, ""), (302, "Answered 302."), (404, "Answered 404."), (500, "Answered 500.")]
)
def test_only_2xx_counts_and_no_redirect_is_followed(receiver, endpoint, status, error):
    receiver.status, receiver.headers = status, {"Location": f"{receiver.url}/elsewhere"}
    happen()

    deliveries.deliver_due()

    assert state() == ("delivered" if status == 202 else "pending", 1, status, error)
    assert [post.path for post in receiver.received] == ["/hooks"]


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "http://nobody.invalid/", "http://127.0.0.1:99999/"])
def test_what_cannot_be_reached_is_a_failure_like_any_other(url):
    WebhookEndpoint.objects.create(url=url)
    happen()

    deliveries.deliver_due()

    status, attempts, code, error = state()
    assert (status, attempts, code) == ("pending", 1, None)
    assert error


@pytest.mark.parametrize(
    ("host", "private"),
    [
        ("169.254.169.254", True),
        ("[fe80::1]", True),
        ("[::ffff:169.254.169.254]", True),
        ("127.0.0.1", False),
        ("localhost", False),
        ("10.1.2.3", False),
        ("0.0.0.0", False),
    ],
)
def test_what_is_no_address_for_receivers_is_never_connected_to(receiver, settings, host, private):
    settings.WEBHOOK_PRIVATE_ADDRESSES = private
    WebhookEndpoint.objects.create(url=f"http://{host}:{receiver.port}/hooks")
    happen()

    deliveries.deliver_due()

    assert state()[:3] == ("pending", 1, None)
    assert "is no address for receivers" in state()[3]
    assert receiver.received == []


def test_a_name_is_judged_by_what_it_leads_to(receiver):
    WebhookEndpoint.objects.create(url=f"http://localhost:{receiver.port}/hooks")
    happen()

    deliveries.deliver_due()

    assert state()[0] == "delivered"


def test_an_endpoint_cannot_be_stored_with_a_password(db):
    with pytest.raises(IntegrityError, match="webhookendpoint_url_no_credentials"):
        WebhookEndpoint.objects.create(url="http://user:s3cretpw@example.com/hooks")


def test_an_endpoint_that_hangs_holds_nobody_up(receiver, endpoint):
    hanging = WebhookEndpoint.objects.create(url=f"{receiver.url}/hang")
    happen()
    happen()

    with ThreadPoolExecutor(1) as thread:
        worker = thread.submit(deliveries.deliver_due)
        wait_until(lambda: endpoint.deliveries.filter(status="delivered").count() == 2)
        wait_until(lambda: "/hang" in [post.path for post in receiver.received])
        happen()
        # Another worker serves the others and leaves alone the one that the first is waiting for.
        assert deliveries.deliver_due() == 1
        assert not worker.done()
        receiver.released.set()

    assert hanging.deliveries.filter(status="delivered").count() == 3


def test_who_does_not_answer_in_time_is_left_for_another_round(receiver, monkeypatch):
    monkeypatch.setattr(deliveries, "TIMEOUT", 0.2)
    hanging = WebhookEndpoint.objects.create(url=f"{receiver.url}/hang")
    happen()
    happen()

    assert deliveries.deliver_due() == 1

    tried, waiting = hanging.deliveries.order_by("-attempts")
    assert (tried.attempts, tried.last_error) == (1, "No answer within 0.2 seconds.")
    assert (waiting.attempts, waiting.status) == (0, "pending")
    hanging.refresh_from_db()
    assert hanging.busy_until is None


# Again and again -----------------------------------------------------------------------------------------------------


def test_ten_attempts_over_two_days_then_it_is_dead(receiver, endpoint, clock):
    receiver.status = 503
    event = happen()

    assert deliveries.deliver_due() == 1
    for number, pause in enumerate(SCHEDULE, start=1):
        last, row = timezone.now(), delivery()
        assert timedelta(seconds=pause) <= row.next_attempt_at - last <= timedelta(seconds=pause * 1.2)
        assert row.attempts == number
        clock.move_to(last + timedelta(seconds=pause) - timedelta(milliseconds=1))
        assert deliveries.deliver_due() == 0
        clock.move_to(last + timedelta(seconds=pause * 1.2))
        assert deliveries.deliver_due() == 1

    assert state() == ("dead", 10, 503, "Answered 503.")
    clock.move_to(NOON + timedelta(days=30))
    assert deliveries.deliver_due() == 0
    assert receiver.ids == [str(event.pk)] * 10
    assert len({post.headers["webhook-timestamp"] for post in receiver.received}) == 10
    assert len({post.body for post in receiver.received}) == 1


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("90", 90),
        ("Tue, 10 Mar 2026 12:10:00 GMT", 600),
        ("1", None),
        ("-5", None),
        ("soon", None),
        ("Tue, 10 Mar 2020 12:10:00 GMT", None),
        ("9" * 30, None),
        ("99999999", 86400),
    ],
)
def test_the_receiver_may_ask_for_more_time(receiver, endpoint, clock, header, seconds):
    receiver.status, receiver.headers = 429, {"Retry-After": header}
    happen()

    deliveries.deliver_due()

    waits = (delivery().next_attempt_at - NOON).total_seconds()
    assert waits == seconds if seconds else 5 <= waits <= 6


def test_410_switches_the_endpoint_off(receiver, endpoint, operator, clock):
    happen()
    happen()
    receiver.status = 410

    deliveries.deliver_due()

    endpoint.refresh_from_db()
    assert (endpoint.is_active, endpoint.disabled_reason[:13]) == (False, "Answered 410:")
    assert sorted(WebhookDelivery.objects.values_list("status", "attempts")) == [("dead", 1), ("pending", 0)]
    assert AuditEvent.objects.get().action == "webhook_endpoint.disabled"
    happen()
    assert WebhookDelivery.objects.count() == 2
    clock.shift(3600)
    assert deliveries.deliver_due() == 0


def test_what_a_lost_worker_had_taken_is_sent_again_under_the_same_id(receiver, endpoint, clock):
    event = happen()
    WebhookEndpoint.objects.update(busy_until=NOON + deliveries.LEASE)
    assert deliveries._claim(endpoint.pk) is not None
    assert deliveries.deliver_due() == 0

    clock.move_to(NOON + deliveries.LEASE)

    assert deliveries.deliver_due() == 1
    assert receiver.ids == [str(event.pk)]
    assert state() == ("delivered", 2, 200, "")


def test_a_worker_that_comes_back_late_changes_nothing(receiver, endpoint, clock):
    happen()
    late = deliveries._claim(endpoint.pk)
    clock.move_to(NOON + deliveries.LEASE)
    deliveries.deliver_due()

    deliveries._record(late, deliveries.Answer(500, "Answered 500."))

    assert state() == ("delivered", 2, 200, "")


# What operators do ---------------------------------------------------------------------------------------------------


def test_what_is_dead_is_replayed_under_the_same_id(receiver, endpoint, operator):
    event = happen()
    WebhookDelivery.objects.update(status="dead", attempts=10, last_status_code=500, last_error="Answered 500.")

    webhooks.replay(delivery_id=delivery().pk, by=operator)
    deliveries.deliver_due()

    assert receiver.ids == [str(event.pk)]
    assert state() == ("delivered", 1, 200, "")
    audited = AuditEvent.objects.get()
    assert (audited.action, audited.target_id) == ("webhook_delivery.replayed", str(delivery().pk))


def test_all_that_is_dead_is_replayed_and_nothing_else(receiver, endpoint, operator):
    other = WebhookEndpoint.objects.create(url=f"{receiver.url}/other")
    for _ in range(3):
        happen()
    deliveries.deliver_due()
    dead = list(endpoint.deliveries.order_by("id")[:2])
    WebhookDelivery.objects.filter(pk__in=[row.pk for row in [*dead, other.deliveries.first()]]).update(
        status="dead", delivered_at=None
    )
    del receiver.received[:]

    assert webhooks.replay_dead(endpoint=endpoint, by=operator) == 2

    deliveries.deliver_due()
    assert receiver.ids == [str(row.event_id) for row in dead]
    assert other.deliveries.get(status="dead").attempts == 1
    assert AuditEvent.objects.get().metadata == {"deliveries": 2}


def test_what_waits_is_sent_at_once_and_once_only(receiver, endpoint, operator):
    receiver.status, receiver.headers = 503, {"Retry-After": "3600"}
    event = happen()
    with pytest.raises(webhooks.Conflict):
        webhooks.replay(delivery_id=delivery().pk, by=operator)
    deliveries.deliver_due()
    receiver.status = 200
    assert deliveries.deliver_due() == 0

    webhooks.replay(delivery_id=delivery().pk, by=operator)

    assert deliveries.deliver_due() == 1
    assert deliveries.deliver_due() == 0
    assert receiver.ids == [str(event.pk)] * 2
    assert state() == ("delivered", 2, 200, "")
    assert AuditEvent.objects.get().action == "webhook_delivery.hurried"


def test_a_test_event_goes_to_its_endpoint_alone(receiver, endpoint, operator):
    WebhookEndpoint.objects.create(url=f"{receiver.url}/other")

    webhooks.send_test(endpoint=endpoint, by=operator)
    events.dispatch(mail=lambda event: None)
    deliveries.deliver_due()

    (post,) = receiver.received
    body = orjson.loads(post.body)
    assert (post.path, body["type"]) == ("/hooks", "webhook.test")
    assert body["data"] == {"user_id": None, "endpoint_id": str(endpoint.pk)}
