"""Passing events on: to the endpoints that want them and to users by mail, once, and all or nothing."""

from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from accounts.merging import merge_users
from accounts.models import ApiKey, User, UserPreference
from accounts.tests.credentials import api_key
from accounts.tests.mailbox import work
from quotas import events, tasks, thresholds
from quotas.cleanup import CHORES
from quotas.models import Event, Quota, WebhookDelivery
from quotas.services import consume
from quotas.tests.factories import EndpointFactory, QuotaFactory
from quotas.tests.test_concurrency import in_threads
from quotas.tests.test_thresholds import REQUESTS

CHANGED = Event.Type.SUBSCRIPTION_CHANGED


def happen(user=None):
    return events.emit(type=CHANGED, user_id=user and user.pk, payload={"plan": "pro"})


def test_each_endpoint_gets_what_it_wants(alice):
    everything, this = EndpointFactory(), EndpointFactory(event_types=[CHANGED])
    EndpointFactory(event_types=["quota.limit_reached"])
    EndpointFactory(is_active=False)
    event = happen(alice)

    tasks.dispatch_events()
    tasks.dispatch_events()

    event.refresh_from_db()
    assert event.dispatched_at
    sent = WebhookDelivery.objects.order_by("endpoint_id").values_list("endpoint_id", "event_id", "status")
    assert list(sent) == [(everything.pk, event.pk, "pending"), (this.pk, event.pk, "pending")]


def test_what_fails_in_between_is_as_if_it_had_not_begun(alice):
    EndpointFactory()
    happen(alice)
    happen(alice)

    def fail(event):
        raise RuntimeError

    with pytest.raises(RuntimeError):
        events.dispatch(mail=fail)

    assert Event.objects.waiting().count() == 2
    assert not WebhookDelivery.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_many_workers_at_once_pass_each_event_on_once(monkeypatch):
    monkeypatch.setattr(events, "BATCH", 3)
    EndpointFactory()
    for _ in range(20):
        happen()
    mailed = []

    counts = in_threads(lambda number: events.dispatch(mail=mailed.append), 6)

    assert sum(counts) == 20
    assert len({event.pk for event in mailed}) == len(mailed) == WebhookDelivery.objects.count() == 20


def test_an_event_happened_only_if_its_transaction_commits(alice):
    with transaction.atomic():
        happen(alice)
        transaction.set_rollback(True)

    assert not Event.objects.exists()


def test_events_follow_their_user(alice, bob, olga):
    QuotaFactory(user=alice, limit=10)
    consume(user_id=alice.pk, amounts={REQUESTS: 8})
    merge_users(source_id=alice.pk, target_id=bob.pk, by=olga)

    late = happen(alice)

    late.refresh_from_db()
    assert set(Event.objects.values_list("user", flat=True)) == {late.user_id} == {bob.pk}


# Mails ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def mails(django_capture_on_commit_callbacks, mailoutbox):
    """What is mailed of all that has happened."""

    def send():
        with django_capture_on_commit_callbacks(execute=True):
            tasks.dispatch_events()
        work()
        return mailoutbox

    return send


@pytest.fixture
def reader(alice):
    User.objects.filter(pk=alice.pk).update(is_verified=True)
    return alice


def reach(user, share, **fields):
    quota = QuotaFactory(**{"user": user, "unit": "cost", "limit": 50_000_000} | fields)
    Quota.objects.filter(pk=quota.pk).update(current_usage=quota.limit * share // 100, updated_at=timezone.now())
    return quota


def test_the_user_is_told_how_much_is_used_and_until_when(reader, mails):
    quota = reach(reader, 80)

    (mail,) = mails()

    assert (mail.to, mail.subject) == ([reader.email], "80 % of your quota at 127.0.0.1:8000 is used")
    assert "Language model, cost, each month: $40.00 of $50.00 used." in mail.body
    assert f"Calls that need more than is left are refused until {quota.reset_date:%Y-%m-%d} 00:00 UTC." in mail.body
    assert "email_notifications" in mail.body
    assert len(mails()) == 1


def test_who_is_over_the_limit_hears_of_that_alone(reader, mails):
    reach(reader, 100, unit="tokens", period="none")
    reach(reader, 150, unit="requests", limit=1000, overage_allowed=True)

    used_up, over = sorted(mails(), key=lambda mail: "overage" in mail.body or "beyond" in mail.body)

    assert {used_up.subject, over.subject} == {"Your quota at 127.0.0.1:8000 is used up"}
    assert "Language model, tokens: 50,000,000 of 50,000,000 used." in used_up.body
    assert "Calls that need more than is left are refused." in used_up.body
    assert "1,500 of 1,000 used" in over.body
    assert "Calls beyond the limit are let through" in over.body


def test_who_has_too_little_left_for_a_call_is_not_told_that_it_is_used_up(reader, mails):
    quota = QuotaFactory(user=reader, limit=3_600)
    consume(user_id=reader.pk, amounts={REQUESTS: 3_450})
    Quota.objects.filter(pk=quota.pk).update(held=50)

    thresholds.note_refusal(quota_ids=[quota.pk])

    (mail,) = mails()
    assert mail.subject == "Your quota at 127.0.0.1:8000 has too little left for a call"
    assert "3,450 of 3,600 used." in mail.body
    assert "too little is left for it: 100 left, and 50 held by calls that had not ended." in mail.body
    assert "used up" not in mail.subject + mail.body


def test_the_owner_of_a_key_is_told_which_key_it_is(reader, mails):
    api_key(reader, name="Click here")
    key = ApiKey.objects.get()
    reach(reader, 80, api_key=key)

    (mail,) = mails()

    assert f"used by your API key msk_{key.prefix}_…." in mail.body
    assert "Click here" not in mail.body


@pytest.mark.parametrize(
    "nobody", ["unverified", "inactive", "without an address", "not asked for", "a minute", "erased meanwhile"]
)
def test_who_gets_no_mail(reader, mails, nobody):
    reach(reader, 100, period="minute" if nobody == "a minute" else "day")
    user = User.objects.filter(pk=reader.pk)
    match nobody:
        case "unverified":
            user.update(is_verified=False)
        case "inactive":
            user.update(is_active=False)
        case "without an address":
            user.update(email=None)
        case "not asked for":
            UserPreference.objects.create(user=reader, email_notifications=False)
        case "erased meanwhile":
            Event.objects.all().delete()

    assert mails() == []
    assert not Event.objects.waiting().exists()


# Retention -----------------------------------------------------------------------------------------------------------


def clear(now):
    return [chore.run(now) for chore in CHORES if "idempotency" not in chore.what]


def test_what_is_old_goes_and_what_still_counts_stays(alice, settings):
    settings.EVENT_DAYS = 10
    now = timezone.now()
    old, young = now - timedelta(days=10), now - timedelta(days=9)
    to = EndpointFactory()

    def event(when=old, **fields):
        return Event.objects.create(type=CHANGED, created_at=when, dispatched_at=when, **fields)

    def sent(event, status="delivered", when=old):
        return WebhookDelivery.objects.create(
            endpoint=to, event=event, status=status, delivered_at=when if status == "delivered" else None
        )

    quota = QuotaFactory(user=alice)
    gone = [event(), event(quota=quota, reset_date=now)]
    sent(gone[1], status="dead")
    running = event(quota=quota, reset_date=now + timedelta(days=20))
    kept = [event(young), running, event(quota=quota), event(), Event.objects.create(type=CHANGED, created_at=old)]
    stays = [sent(kept[3], status="pending"), sent(kept[0], when=young), sent(kept[2], status="dead")]
    sent(running)

    assert clear(now) == [1, 2, 0]

    assert set(Event.objects.all()) == set(kept)
    assert set(WebhookDelivery.objects.all()) == set(stays)


def test_a_former_secret_is_forgotten_after_its_overlap(db):
    now = timezone.now()
    over = EndpointFactory(previous_secret="whsec_AAAA", previous_expires_at=now)
    open_ = EndpointFactory(previous_secret="whsec_AAAA", previous_expires_at=now + timedelta(seconds=1))

    assert clear(now) == [0, 0, 1]

    over.refresh_from_db()
    open_.refresh_from_db()
    assert (over.previous_secret, open_.previous_secret) == ("", "whsec_AAAA")
