"""`erase_user`: what is personal is gone, and money and the record of what was done stay."""

from datetime import timedelta

import pytest
from django.apps import apps
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import Group
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.utils import timezone

from accounts import audit
from accounts.caller import Caller
from accounts.credentials import caller_for_key
from accounts.erasing import erase_user
from accounts.exceptions import DomainError, NotAuthenticated, NotFound
from accounts.ids import uuid7
from accounts.merging import merge_users
from accounts.models import (
    ApiKey,
    AuditEvent,
    ChannelIdentity,
    OneTimeCode,
    RecoveryCode,
    Session,
    TotpDevice,
    User,
    UserPreference,
)
from accounts.tests.credentials import access_token, api_key, caller_for_token
from accounts.tests.factories import UserFactory
from conversations import services as conversations
from conversations.models import Conversation, Message
from inference.models import Model, Provider, Request
from inference.services import Status, Usage
from prompts.models import Collection, PromptTemplate, PromptVersion, SavedPrompt, ShareLink
from quotas import services as quotas
from quotas.meters import Meter
from quotas.models import IdempotencyRecord, Quota, Reservation, Subscription

MARK = "Xanthippe"
ADDRESS = "10.99.88.77"
ME = "/api/v1/users/me"
REQUESTS, TOKENS = Meter("llm", "requests"), Meter("llm", "tokens")
DELETED = (ChannelIdentity, Session, OneTimeCode, TotpDevice, RecoveryCode, UserPreference, ApiKey)


@pytest.fixture
def person(olga):
    """Somebody with a row of everything, each of which says who they are."""
    user = UserFactory(
        email=f"{MARK.lower()}@example.com",
        full_name=MARK,
        username=MARK,
        preferred_model=MARK,
        metadata={"name": MARK},
    )
    user.groups.add(Group.objects.get(name="support"))
    caller = Caller(user_id=user.pk, email=user.email, ip=ADDRESS, user_agent=MARK)
    user.raw = api_key(user, name=MARK, by=caller)
    tomorrow = timezone.now() + timedelta(days=1)
    Session.objects.create(
        user=user, refresh_jti=uuid7().hex, expires_at=tomorrow, device=MARK, ip=ADDRESS, user_agent=MARK
    )
    ChannelIdentity.objects.create(user=user, channel_type="slack", channel_user_id=MARK, username=MARK)
    OneTimeCode.objects.create(
        user=user, purpose="verify_email", code_hash="a" * 64, email=user.email, expires_at=tomorrow
    )
    TotpDevice.objects.create(user=user, secret="aa")
    RecoveryCode.objects.create(user=user, code_hash="a" * 64)
    UserPreference.objects.create(user=user, settings={"name": MARK})
    folder = Collection.objects.create(user=user, name=MARK, description=MARK)
    SavedPrompt.objects.create(user=user, title=MARK, content=MARK, collection=folder, tags=[MARK])
    ShareLink.objects.create(user=user, collection=folder, prefix="p", token_hash="a" * 64)
    template = PromptTemplate.objects.create(user=user, name=MARK.lower(), description=MARK)
    PromptVersion.objects.create(template=template, number=1, content=MARK, commit_message=MARK)
    quotas.reserve(user_id=user.pk, amounts={REQUESTS: 1}, seconds=60, idempotency_key=MARK)
    IdempotencyRecord.objects.create(
        user=user,
        key=MARK,
        endpoint="POST /x",
        fingerprint="0",
        status="done",
        response_status=200,
        expires_at=tomorrow,
    )
    talk = Conversation.objects.create(user=user, title=MARK, metadata={"name": MARK})
    request = Request.objects.create(
        user=user,
        api_key=ApiKey.objects.get(user=user),
        request_type="llm",
        model="m",
        status="error",
        finished_at=timezone.now(),
        error_message=MARK,
        request_data={"q": MARK},
        response_data={"a": MARK},
        input_tokens=3,
        cost=5,
    )
    Message.objects.create(conversation=talk, role="user", content=MARK, request=request)
    audit.record("session.sign_in_failed", by=None, target=user, ip=ADDRESS, user_agent=MARK)
    AuditEvent.objects.create(action="session.sign_in_failed", actor_email=user.email, ip=ADDRESS)
    audit.record("user.updated", by=Caller(user_id=olga.pk, email=olga.email, ip="10.0.0.1"), target=user)
    LogEntry.objects.create(
        user=olga,
        content_type=ContentType.objects.get_for_model(User),
        object_id=str(user.pk),
        object_repr=str(user),
        action_flag=CHANGE,
    )
    LogEntry.objects.create(user=olga, object_id="1", object_repr=f"{user} on Free (active)", action_flag=CHANGE)
    return user


def erase(user, by=None):
    erase_user(user_id=user.pk, by=by or user)
    user.refresh_from_db()


def rows_with(*texts):
    """The tables of which a row holds one of the texts."""
    found = []
    with connection.cursor() as cursor:
        for model in apps.get_models():
            table = model._meta.db_table
            for text in texts:
                cursor.execute(f'SELECT count(*) FROM "{table}" t WHERE lower(t::text) LIKE lower(%s)', [f"%{text}%"])
                if cursor.fetchone()[0]:
                    found.append((table, text))
    return found


def test_no_row_of_the_whole_database_says_who_it_was(person):
    assert len({table for table, _text in rows_with(MARK, ADDRESS)}) >= 11

    erase(person)

    assert rows_with(MARK, ADDRESS) == []


def test_only_the_id_of_the_user_is_left(person, olga):
    erase(person, by=olga)

    assert (person.email, person.username, person.full_name, person.preferred_model) == (None, None, "", "")
    assert (person.metadata, person.last_login, person.has_usable_password()) == ({}, None, False)
    assert (person.is_active, person.is_staff, person.is_superuser, person.is_verified) == (False,) * 4
    assert person.groups.count() == 0
    assert person.erased_at is not None


def test_what_is_personal_is_deleted_and_what_was_used_is_kept(person):
    erase(person)

    for model in (*DELETED, Conversation, Message, SavedPrompt, Collection, ShareLink, PromptTemplate, PromptVersion):
        assert not model.objects.exists(), model
    request = Request.objects.get()
    assert (request.user_id, request.input_tokens, request.cost, request.api_key_id) == (person.pk, 3, 5, None)
    assert (request.request_data, request.response_data, request.error_message) == ({}, None, "")
    reservation = Reservation.objects.get()
    assert (reservation.amounts, reservation.idempotency_key) == ({"llm.requests": 1}, "")
    assert Quota.objects.filter(user=person, held=1).exists()
    assert Subscription.objects.get().status == "canceled"


def test_the_record_says_what_was_done_and_no_more_by_whom(person, olga):
    erase(person)

    events = list(AuditEvent.objects.order_by("id"))
    assert [event.action for event in events] == [
        *("api_key.created", "session.sign_in_failed", "session.sign_in_failed", "user.updated", "user.erased"),
    ]
    assert [(event.actor_email, event.ip) for event in events] == [
        *(("", None),) * 3,
        ("olga@example.com", "10.0.0.1"),
        ("", None),
    ]
    assert events[-1].actor_id == person.pk


def test_others_lose_nothing(person, alice):
    key = api_key(alice, by=Caller(user_id=alice.pk, email=alice.email, ip="10.0.0.2"))
    SavedPrompt.objects.create(user=alice, title="Title", content="Content")

    erase(person)

    assert caller_for_key(key).user_id == alice.pk
    assert SavedPrompt.objects.get().user_id == alice.pk
    assert AuditEvent.objects.get(actor_id=alice.pk).ip == "10.0.0.2"


def test_nobody_comes_in_any_more(person, django_capture_on_commit_callbacks):
    token = access_token(person)
    caller_for_key(person.raw)
    caller_for_token(token)

    with django_capture_on_commit_callbacks(execute=True):
        erase(person)

    with pytest.raises(NotAuthenticated):
        caller_for_key(person.raw)
    with pytest.raises(NotAuthenticated):
        caller_for_token(token)


def test_aliases_are_erased_with_the_user(person, alice, olga):
    merge_users(source_id=person.pk, target_id=alice.pk, by=olga)

    erase(alice)

    person.refresh_from_db()
    assert (person.erased_at, person.email) != (None, "xanthippe@example.com")
    assert person.erased_at is not None
    assert rows_with(MARK, ADDRESS, "alice@example.com") == []


def test_erasing_twice_is_erasing_once(person):
    erase(person)
    erase(person)

    assert AuditEvent.objects.filter(action="user.erased").count() == 1


def test_who_cannot_be_erased(api, alice, bob, olga):
    def refusal(user, by):
        with pytest.raises(DomainError) as refused:
            erase_user(user_id=user.pk, by=by)
        return refused.value.code

    assert refusal(olga, olga) == "last_operator"
    assert refusal(olga, alice) == "permission_denied"
    answer = api(olga).delete(ME)
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "last_operator")
    merge_users(source_id=bob.pk, target_id=alice.pk, by=olga)
    assert refusal(bob, olga) == "user_merged"
    with pytest.raises(NotFound):
        erase_user(user_id=uuid7(), by=olga)


def test_an_operator_who_is_not_the_last_goes(olga):
    UserFactory(is_staff=True, is_superuser=True)

    erase(olga)

    assert (olga.is_superuser, olga.email) == (False, None)


@pytest.mark.django_db(transaction=True)
def test_a_request_of_an_erased_user_that_is_under_way_is_refused(api, alice):
    """The token is believed for a moment longer by whoever has read of the user before."""
    client = api(alice)
    assert client.get(ME).status_code == 200
    erase(alice)

    for path, body in (("/api/v1/prompts/saved", {"title": "T", "content": "C"}), ("/api/v1/conversations", {})):
        assert client.post(path, body).status_code == 401


# Running calls ---------------------------------------------------------------------------------------------------


@pytest.fixture
def turn(alice):
    """A running chat call that is kept in a conversation."""
    provider = Provider.objects.create(name="provider", base_url="http://127.0.0.1:9/v1")
    Model.objects.create(name="some-model", upstream_name="m", provider=provider)
    talk = Conversation.objects.create(user=alice)
    payload = {"model": "some-model", "max_tokens": 50, "messages": [{"role": "user", "content": MARK}]}
    turn = conversations.open_chat(caller=Caller(user_id=alice.pk), payload=payload, conversation_id=str(talk.pk))
    outcome = turn.call.outcome
    outcome.status, outcome.usage, outcome.text, outcome.response = Status.SUCCESS, Usage.REPORTED, MARK, {"a": MARK}
    outcome.input_tokens, outcome.output_tokens = 5, 20
    return turn


def usage(user):
    rows = Quota.objects.filter(user=user, resource_type="llm", unit__in=["requests", "tokens"])
    return {quota.unit: (quota.current_usage, quota.held) for quota in rows}


def test_a_running_call_is_ended_and_charged_and_writes_nothing_back(alice, turn):
    estimate = Request.objects.get().input_tokens
    assert estimate > 0

    erase(alice)
    turn.settle()

    request = Request.objects.get()
    assert (request.status, request.error_code, request.error_message) == ("error", "user_erased", "")
    assert usage(alice) == {"requests": (1, 0), "tokens": (estimate, 0)}
    assert rows_with(MARK) == []


def test_a_call_whose_conversation_was_deleted_is_settled_all_the_same(alice, turn):
    Conversation.objects.all().delete()

    turn.settle()

    assert Request.objects.get().status == "success"
    assert usage(alice) == {"requests": (1, 0), "tokens": (25, 0)}
    assert not Message.objects.exists()
