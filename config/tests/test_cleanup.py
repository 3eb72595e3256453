"""What has expired is dealt with, and nothing else is: `manage.py cleanup`, and the task behind the beat."""

import io
from datetime import timedelta
from itertools import count

import pytest
from axes.models import AccessAttempt
from django.core.management import call_command
from django.utils import timezone

from accounts import cleanup as accounts
from accounts.models import ApiKey, AuditEvent, BlacklistedToken, OneTimeCode, Session
from accounts.tests.credentials import api_key
from config.cleanup import CHORES, clean_up
from config.tasks import cleanup
from conversations.models import Conversation, Message
from conversations.tests.factories import a_conversation
from inference.models import Request
from quotas.models import IdempotencyRecord, Plan
from quotas.tests.factories import DeliveryFactory, EndpointFactory, EventFactory, SubscriptionFactory

number = count()
HASH = "a" * 64


@pytest.fixture
def now():
    return timezone.now()


def ago(**span):
    return timezone.now() - timedelta(**span)


def session(user, **fields):
    return Session.objects.create(
        **{"user": user, "refresh_jti": f"jti{next(number)}", "expires_at": ago(days=-1)} | fields
    )


def revoked(when):
    return {"revoked_at": when, "revoked_reason": "signed_out"}


def code(user, **fields):
    given = {"user": user, "purpose": "reset_password", "code_hash": f"{next(number):064x}", "expires_at": ago(days=-1)}
    return OneTimeCode.objects.create(**given | fields)


def answer(user, **fields):
    given = {"key": f"key{next(number)}", "endpoint": "POST /x", "fingerprint": HASH, "expires_at": ago(days=-1)}
    return IdempotencyRecord.objects.create(user=user, **given | fields)


def token(of, **fields):
    given = {"session": of, "jti": f"jti{next(number)}", "token_type": "access", "reason": "signed_out"}
    return BlacklistedToken.objects.create(**given | fields)


def key(user, **fields):
    api_key(user, name=f"key{next(number)}")
    made = ApiKey.objects.latest("id")
    ApiKey.objects.filter(pk=made.pk).update(**fields)
    return made


def left(model):
    return set(model.objects.values_list("pk", flat=True))


def test_expired_keys_are_switched_off_and_stay_with_their_history(alice):
    over, good, forever = key(alice, expires_at=ago(minutes=1)), key(alice, expires_at=ago(days=-1)), key(alice)
    asked = Request.objects.create(user=alice, api_key=over, request_type="llm", model="m")

    done = clean_up()

    assert done["expired API keys switched off"] == 1
    assert set(ApiKey.objects.filter(is_active=True)) == {good, forever}
    asked.refresh_from_db()
    assert asked.api_key == over
    event = AuditEvent.objects.get(action="api_key.expired")
    assert (event.actor_id, event.metadata) == (None, {"keys": 1})


def test_the_text_before_a_rotation_is_forgotten_after_its_overlap(alice):
    over = key(alice, previous_prefix="old1", previous_key_hash=HASH, previous_expires_at=ago(minutes=1))
    good = key(alice, previous_prefix="old2", previous_key_hash=HASH, previous_expires_at=ago(minutes=-1))

    clean_up()

    over.refresh_from_db()
    good.refresh_from_db()
    assert (over.previous_prefix, over.previous_key_hash, over.previous_expires_at) == (None, "", None)
    assert (over.is_active, good.previous_prefix, good.previous_key_hash) == (True, "old2", HASH)


def test_sessions_go_a_month_after_they_ended_and_never_while_a_token_of_theirs_lives(alice):
    gone = [
        session(alice, expires_at=ago(days=31)),
        session(alice, expires_at=ago(days=1), **revoked(ago(days=31))),
    ]
    kept = [
        session(alice),
        session(alice, expires_at=ago(days=29)),
        session(alice, expires_at=ago(days=29), **revoked(ago(days=29))),
        session(alice, expires_at=ago(days=-1), **revoked(ago(days=31))),
    ]
    for each in gone:
        token(each, expires_at=ago(days=2))

    done = clean_up()

    assert done[f"sessions deleted that ended {accounts.SESSIONS_KEPT.days} days ago"] == len(gone)
    assert left(Session) == {each.pk for each in kept}


def test_what_hangs_on_a_session_is_not_counted_as_one(alice):
    old = session(alice, expires_at=ago(days=31))
    token(old, expires_at=ago(days=-1))

    assert clean_up()["sessions deleted that ended 30 days ago"] == 1
    assert not BlacklistedToken.objects.exists()


def test_revoked_tokens_go_when_they_would_have_expired(alice):
    of = session(alice)
    token(of, expires_at=ago(seconds=1))
    kept = token(of, expires_at=ago(hours=-1))

    clean_up()

    assert left(BlacklistedToken) == {kept.pk}


def test_codes_go_a_week_after_they_were_used_or_expired(alice):
    code(alice, used_at=ago(days=7, hours=1))
    code(alice, expires_at=ago(days=7, hours=1))
    kept = [code(alice), code(alice, used_at=ago(days=6)), code(alice, expires_at=ago(days=6))]

    clean_up()

    assert left(OneTimeCode) == {each.pk for each in kept}


def test_answers_go_with_their_idempotency_keys(alice):
    answer(alice, expires_at=ago(minutes=1))
    kept = answer(alice)

    clean_up()

    assert left(IdempotencyRecord) == {kept.pk}


def failures(name):
    counted = {"ip_address": "10.1.2.3", "user_agent": "", "failures_since_start": 3}
    attempt = AccessAttempt.objects.create(username=name, **counted)
    AccessAttempt.objects.filter(pk=attempt.pk).update(attempt_time=ago(minutes=16))


def test_counts_of_wrong_passwords_go_when_they_lock_nobody_any_more(alice):
    failures("old@example.com")
    AccessAttempt.objects.create(username="new@example.com", failures_since_start=3, user_agent="")

    clean_up()

    assert AccessAttempt.objects.get().username == "new@example.com"


def test_conversations_go_some_time_after_they_were_deleted_or_as_their_users_plan_says(alice, bob):
    """Also while the plan is not paid for; and what was said goes with them."""
    SubscriptionFactory(user=bob, plan=Plan.objects.get(slug="pro"), status="unpaid", is_suspended=True)
    Plan.objects.filter(is_default=True).update(conversation_retention_days=7)

    def talk(user, **fields):
        begun = a_conversation(user, "Hello")
        Conversation.objects.filter(pk=begun.pk).update(**fields)
        return begun.pk

    talk(alice, last_activity=ago(days=8))
    talk(bob, deleted_at=ago(days=31))
    kept = {
        talk(alice, last_activity=ago(days=6)),
        talk(bob, last_activity=ago(days=300)),
        talk(bob, deleted_at=ago(days=29)),
    }

    clean_up()

    assert left(Conversation) == kept
    assert set(Message.objects.values_list("conversation", flat=True)) == kept


@pytest.fixture
def much(alice, monkeypatch, settings):
    """More of everything than is dealt with at once."""
    monkeypatch.setattr(accounts, "BATCH", 2)
    settings.MESSAGE_RETENTION_MONTHS = 1
    Plan.objects.filter(is_default=True).update(conversation_retention_days=7)
    subscriber = SubscriptionFactory(plan=Plan.objects.get(slug="pro")).user
    for _ in range(5):
        key(alice, expires_at=ago(days=1))
        overlap = {"previous_key_hash": HASH, "previous_expires_at": ago(days=1)}
        key(alice, previous_prefix=f"old{next(number)}", **overlap)
        session(alice, expires_at=ago(days=40))
        failures(f"nobody{next(number)}@example.com")
        token(session(alice), expires_at=ago(days=1))
        code(alice, expires_at=ago(days=9))
        answer(alice, expires_at=ago(days=1))
        endpoint = EndpointFactory(previous_secret="whsec_AAAA", previous_expires_at=ago(days=1))
        event = EventFactory(dispatched_at=ago(days=40))
        DeliveryFactory(endpoint=endpoint, event=event, status="delivered", delivered_at=ago(days=40))
        for fields in ({"deleted_at": ago(days=31)}, {"last_activity": ago(days=8)}):
            Conversation.objects.filter(pk=a_conversation(alice, "Hello").pk).update(**fields)
        a_conversation(subscriber, last_activity=ago(days=80))


def test_all_of_much_is_dealt_with_and_the_second_time_there_is_nothing(much):
    first, second = clean_up(), clean_up()

    assert first == {chore.what: 5 for chore in CHORES}
    assert second == {chore.what: 0 for chore in CHORES}


def test_a_dry_run_counts_and_changes_nothing(much):
    models = (ApiKey, Session, BlacklistedToken, OneTimeCode, AuditEvent)
    before = [list(model.objects.order_by("pk").values()) for model in models]
    out = io.StringIO()

    call_command("cleanup", "--dry-run", stdout=out)

    assert out.getvalue().startswith("Nothing is changed.")
    assert "        5  expired API keys switched off\n" in out.getvalue()
    assert [list(model.objects.order_by("pk").values()) for model in models] == before


def test_the_command_prints_a_line_for_each_chore(much):
    out = io.StringIO()

    call_command("cleanup", stdout=out)

    lines = out.getvalue().splitlines()
    assert [line.split("  ")[-1] for line in lines] == [chore.what for chore in CHORES]
    assert {line.split()[0] for line in lines} == {"5"}


def test_the_beat_does_the_same_every_hour(much, settings):
    schedule = settings.CELERY_BEAT_SCHEDULE["cleanup"]
    assert schedule["task"] == cleanup.name
    assert schedule["schedule"].hour == set(range(24))

    cleanup()

    assert set(clean_up().values()) == {0}


def test_what_ends_meanwhile_is_left_to_the_next_time(alice, now):
    """Each run deals with what was due when it began."""
    (chore,) = (chore for chore in CHORES if chore.what.startswith("expired API keys"))
    key(alice, expires_at=now + timedelta(seconds=30))

    assert chore.run(now) == 0
    assert chore.run(now + timedelta(minutes=1)) == 1
