"""`merge_users`: what becomes of the profile, the way in, and everything that belongs to a user."""

from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import Group
from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts import services as accounts
from accounts.credentials import caller_for_key
from accounts.erasing import erase_user
from accounts.exceptions import Conflict, DomainError, NotAuthenticated, NotFound
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
from accounts.tests.factories import PASSWORD, UserFactory
from conversations.models import Conversation, Message
from inference.models import Request
from prompts.models import Collection, PromptTemplate, SavedPrompt
from prompts.tests.factories import a_template
from quotas import services as quotas
from quotas.exceptions import IdempotencyMismatch
from quotas.idempotency import Answer, AnsweredBefore, Attempt, claimed, finish
from quotas.meters import Meter
from quotas.models import IdempotencyRecord, Plan, Quota, Reservation, Subscription
from quotas.tests.factories import QuotaFactory, SubscriptionFactory

REQUESTS, TOKENS = Meter("llm", "requests"), Meter("llm", "tokens")


@pytest.fixture
def merge(olga, django_capture_on_commit_callbacks):
    def run(source, target, by=olga):
        with django_capture_on_commit_callbacks(execute=True):
            merge_users(source_id=source.pk, target_id=target.pk, by=by)
        source.refresh_from_db()
        target.refresh_from_db()

    return run


@pytest.fixture
def guest(db):
    """Somebody who is known from a channel alone."""
    user = UserFactory(email=None)
    ChannelIdentity.objects.create(user=user, channel_type="discord", channel_user_id="1", username="Gast")
    return user


def session(user, **fields):
    return Session.objects.create(
        user=user, refresh_jti=uuid7().hex, expires_at=timezone.now() + timedelta(days=1), **fields
    )


def code(user, letter="a"):
    return OneTimeCode.objects.create(
        user=user, purpose="reset_password", code_hash=letter * 64, expires_at=timezone.now() + timedelta(hours=1)
    )


# The user --------------------------------------------------------------------------------------------------------


def test_the_source_becomes_an_alias_without_rights(merge, alice, bob):
    bob.groups.add(Group.objects.get(name="support"))
    User.objects.filter(pk=bob.pk).update(is_staff=True)

    merge(bob, alice)

    assert (bob.merged_into_id, bob.is_active, bob.is_staff, bob.is_superuser) == (alice.pk, False, False, False)
    assert (bob.groups.count(), alice.groups.count(), alice.is_staff, alice.is_active) == (0, 0, False, True)


def test_the_targets_values_win_and_its_blanks_are_filled(merge, alice, bob):
    User.objects.filter(pk=alice.pk).update(full_name="Alice", metadata={"a": 1, "both": "alice"})
    User.objects.filter(pk=bob.pk).update(
        username="bobby", preferred_model="m", stripe_customer_id="cus_1", metadata={"b": 2, "both": "bob"}
    )
    renamed = User.objects.get(pk=bob.pk)
    renamed.full_name = "Bob"
    renamed.save()

    merge(bob, alice)

    assert (alice.full_name, alice.username, alice.preferred_model) == ("Alice", "bobby", "m")
    assert alice.stripe_customer_id == "cus_1"
    assert alice.metadata == {"a": 1, "b": 2, "both": "alice"}
    assert (bob.username, bob.stripe_customer_id) == (None, None)


def test_the_address_of_the_source_signs_in_to_the_target_with_the_targets_password(merge, api, alice, bob):
    alice.set_password("alice's own horse battery")
    alice.save()
    merge(bob, alice)

    def sign_in(password):
        return api().post("/api/v1/auth/token", {"email": "bob@example.com", "password": password}).status_code

    assert bob.email == "bob@example.com"
    assert (sign_in("alice's own horse battery"), sign_in(PASSWORD)) == (200, 401)


def test_a_target_without_an_address_gets_the_sources_with_its_password_and_second_factor(merge, api, guest, bob):
    User.objects.filter(pk=bob.pk).update(is_verified=True)
    TotpDevice.objects.create(user=bob, secret="aa")
    RecoveryCode.objects.create(user=bob, code_hash="a" * 64)

    merge(bob, guest)

    assert (guest.email, guest.is_verified, guest.check_password(PASSWORD)) == ("bob@example.com", True, True)
    assert (bob.email, bob.has_usable_password()) == (None, False)
    assert TotpDevice.objects.get().user_id == RecoveryCode.objects.get().user_id == guest.pk


def test_a_target_with_an_address_keeps_its_own_second_factor(merge, alice, bob):
    kept = TotpDevice.objects.create(user=alice, secret="aa")
    TotpDevice.objects.create(user=bob, secret="bb")
    RecoveryCode.objects.create(user=bob, code_hash="a" * 64)

    merge(bob, alice)

    assert TotpDevice.objects.get() == kept
    assert not RecoveryCode.objects.exists()


def test_aliases_of_the_source_point_to_the_target_now(merge, alice, bob, guest):
    merge(guest, bob)
    merge(bob, alice)

    guest.refresh_from_db()
    assert guest.merged_into_id == bob.merged_into_id == alice.pk
    assert ChannelIdentity.objects.get().user_id == alice.pk


def test_a_merge_is_in_the_history_of_both(merge, alice, bob, olga):
    merge(bob, alice)

    events = AuditEvent.objects.filter(action="user.merged").order_by("id")
    assert [(event.target_id, event.metadata, event.actor_id) for event in events] == [
        (str(bob.pk), {"into": str(alice.pk)}, olga.pk),
        (str(alice.pk), {"source": str(bob.pk)}, olga.pk),
    ]


# Refusals --------------------------------------------------------------------------------------------------------


def refused(source, target, by):
    with pytest.raises(DomainError) as refusal:
        merge_users(source_id=source.pk, target_id=target.pk, by=by)
    return refusal.value


def test_who_cannot_be_merged(alice, bob, olga, merge):
    assert refused(alice, alice, olga).code == "same_user"
    assert refused(olga, alice, bob).code == refused(alice, olga, bob).code == "staff_merge"
    assert isinstance(refused(alice, User(), olga), NotFound)
    accounts.set_user_active(user=bob, is_active=False, by=olga)
    assert refused(bob, alice, olga).code == refused(alice, bob, olga).code == "user_not_active"
    accounts.set_user_active(user=bob, is_active=True, by=olga)
    merge(bob, alice)
    assert refused(bob, olga, olga).code == refused(olga, bob, olga).code == "user_merged"
    other = UserFactory()
    erase_user(user_id=other.pk, by=other)
    assert refused(other, alice, olga).code == refused(alice, other, olga).code == "user_erased"


def test_a_refusal_changes_nothing(alice, bob, olga):
    for user in (alice, bob):
        SubscriptionFactory(user=user, stripe_subscription_id=f"sub_{user.email}")
    SavedPrompt.objects.create(user=bob, title="Title", content="Content")

    assert refused(bob, alice, olga).code == "two_paid_subscriptions"

    bob.refresh_from_db()
    assert bob.is_active
    assert SavedPrompt.objects.get().user_id == bob.pk
    assert not AuditEvent.objects.filter(action="user.merged").exists()


@pytest.mark.parametrize("is_active", [True, False])
def test_nobody_lets_an_alias_in_again(merge, alice, bob, olga, is_active):
    merge(bob, alice)

    with pytest.raises(Conflict):
        accounts.set_user_active(user=bob, is_active=is_active, by=olga)


# Rows ------------------------------------------------------------------------------------------------------------


def test_keys_work_on_for_the_target_and_sessions_end(merge, alice, bob):
    raw, held = api_key(bob), session(bob)
    ended = session(bob, revoked_at=timezone.now(), revoked_reason="signed_out")
    assert caller_for_key(raw).user_id == bob.pk
    token = access_token(bob)
    assert caller_for_token(token).user_id == bob.pk

    merge(bob, alice)

    assert caller_for_key(raw).user_id == alice.pk
    with pytest.raises(NotAuthenticated):
        caller_for_token(token)
    held.refresh_from_db()
    ended.refresh_from_db()
    assert (held.revoked_reason, ended.revoked_reason) == ("merged", "signed_out")
    assert held.user_id == ended.user_id == alice.pk


def test_what_was_sent_to_the_source_opens_nothing_of_the_target(merge, alice, bob):
    own = code(alice, "b")
    code(bob)

    merge(bob, alice)

    assert OneTimeCode.objects.get() == own


@pytest.mark.parametrize(("targets", "expected"), [("dark", "dark"), (None, "light")])
def test_the_targets_preferences_stay_if_there_are_any(merge, alice, bob, targets, expected):
    UserPreference.objects.create(user=bob, theme="light")
    if targets:
        UserPreference.objects.create(user=alice, theme=targets)

    merge(bob, alice)

    assert UserPreference.objects.get(user=alice).theme == expected
    assert UserPreference.objects.count() == 1


def test_history_conversations_and_prompts_move(merge, alice, bob):
    talk = Conversation.objects.create(user=bob)
    Message.objects.create(conversation=talk, role="user", content="Hello")
    Request.objects.create(user=bob, request_type="llm", model="m")
    SavedPrompt.objects.create(user=bob, title="Title", content="Content")

    merge(bob, alice)

    for model in (Conversation, Request, SavedPrompt):
        assert model.objects.get().user_id == alice.pk
    assert alice.conversations.get().messages.count() == 1


def test_a_name_of_both_stays_the_targets(merge, alice, bob):
    own, theirs, other = a_template(alice, name="same"), a_template(bob, name="same"), a_template(bob, name="other")

    merge(bob, alice)

    assert PromptTemplate.objects.get(user=alice, name="same") == own
    assert PromptTemplate.objects.get(user=alice, name="other") == other
    theirs.refresh_from_db()
    assert theirs.user_id == alice.pk
    assert theirs.name.startswith("same-")


@pytest.mark.parametrize(
    "model", ["conversation", "prompt", "folder", "template", "key", "session", "channel", "code", "preference"]
)
def test_what_is_written_for_an_alias_later_is_the_targets(merge, alice, bob, guest, model):
    merge(bob, guest)
    merge(guest, alice)
    make = {
        "conversation": lambda user: Conversation.objects.create(user_id=user),
        "folder": lambda user: Collection.objects.create(user_id=user, name="Folder"),
        "template": lambda user: PromptTemplate.objects.create(user_id=user, name="t"),
        "prompt": lambda user: SavedPrompt.objects.create(user_id=user, title="Title", content="Content"),
        "key": lambda user: ApiKey.objects.create(user_id=user, name="key", prefix="p", key_hash="a" * 64),
        "session": lambda user: session(User(pk=user)),
        "channel": lambda user: ChannelIdentity.objects.create(user_id=user, channel_type="slack", channel_user_id="1"),
        "code": lambda user: code(User(pk=user)),
        "preference": lambda user: UserPreference.objects.create(user_id=user),
    }[model]

    row = make(bob.pk)

    row.refresh_from_db()
    assert row.user_id == alice.pk


# Quotas ----------------------------------------------------------------------------------------------------------


def quota_of(user, meter=REQUESTS):
    return Quota.objects.get(user=user, resource_type=meter.resource, unit=meter.unit, period="month")


def test_usage_holds_and_grants_are_added_up_and_the_targets_base_stays(merge, alice, bob):
    QuotaFactory(user=alice, limit=130, base_limit=100, granted=30, current_usage=50, held=5)
    QuotaFactory(user=bob, limit=1010, base_limit=1000, granted=10, current_usage=20, held=2)

    merge(bob, alice)

    quota = quota_of(alice)
    assert (quota.base_limit, quota.granted, quota.limit) == (100, 40, 140)
    assert (quota.current_usage, quota.held) == (70, 7)
    assert not Quota.objects.filter(user=bob).exists()


def test_who_has_used_more_than_the_target_may_is_admitted_nothing_until_the_reset(merge, alice, bob):
    QuotaFactory(user=alice, limit=100, current_usage=90)
    QuotaFactory(user=bob, limit=1000, current_usage=300, held=5)

    merge(bob, alice)

    quota = quota_of(alice)
    assert (quota.limit, quota.current_usage, quota.held, quota.remaining) == (395, 390, 5, 0)
    Quota.objects.update(reset_date=datetime(2020, 1, 1, tzinfo=UTC))
    quotas.reset_due()
    assert quota_of(alice).limit == 100


def test_periods_that_are_over_are_not_added_up(merge, alice, bob):
    QuotaFactory(user=alice, limit=100, current_usage=10)
    QuotaFactory(user=bob, limit=100, current_usage=99, reset_date=datetime(2020, 1, 1, tzinfo=UTC))

    merge(bob, alice)

    assert quota_of(alice).current_usage == 10


def test_a_quota_that_only_the_source_has_moves(merge, alice, bob):
    QuotaFactory(user=alice)
    moved = QuotaFactory(user=bob, resource_type="tts", unit="characters", limit=7, current_usage=3)

    merge(bob, alice)

    moved.refresh_from_db()
    assert (moved.user_id, moved.limit, moved.current_usage) == (alice.pk, 7, 3)


@pytest.mark.parametrize("target_has", ["quotas", "none"])
def test_a_hold_of_the_source_is_settled_on_the_target(merge, alice, bob, target_has):
    QuotaFactory(user=bob, limit=100, current_usage=4)
    if target_has == "quotas":
        QuotaFactory(user=alice, limit=100, current_usage=1)
    held = quotas.reserve(user_id=bob.pk, amounts={REQUESTS: 10}, seconds=60)
    gone = quotas.reserve(user_id=bob.pk, amounts={REQUESTS: 10}, seconds=60)
    late = quotas.reserve(user_id=bob.pk, amounts={REQUESTS: 10}, seconds=0)
    quotas.consume(user_id=bob.pk, amounts={REQUESTS: 5})
    quotas.sweep_expired(now=timezone.now() + timedelta(seconds=1))

    merge(bob, alice)
    quotas.settle(reservation_id=held.id, used={REQUESTS: 6})
    quotas.settle(reservation_id=late.id, used={REQUESTS: 3})
    quotas.release(reservation_id=gone.id)

    quota = quota_of(alice)
    used = 4 + 5 + 6 + 3 + (1 if target_has == "quotas" else 0)
    assert (quota.current_usage, quota.held) == (used, 0)
    for reservation in Reservation.objects.all():
        assert reservation.user_id == alice.pk
        assert set(reservation.holds) == {str(quota.pk)}
        assert set(reservation.charged or {}) <= {str(quota.pk)}


def test_who_is_merged_while_a_call_is_admitted_holds_on_the_target(merge, alice, bob):
    """The caller was recognised as the source before."""
    QuotaFactory(user=bob, limit=100)
    QuotaFactory(user=alice, limit=100)
    merge(bob, alice)

    quotas.reserve(user_id=bob.pk, amounts={REQUESTS: 10}, seconds=60)

    assert quota_of(alice).held == 10
    assert Reservation.objects.get().user_id == alice.pk


def test_an_alias_gets_no_plan_and_no_quotas(merge, alice, bob):
    merge(bob, alice)

    with pytest.raises(NotAuthenticated) as refusal:
        quotas.provision(user_id=bob.pk)

    assert refusal.value.code == "account_inactive"
    hold = quotas.reserve(user_id=bob.pk, amounts={TOKENS: 1}, seconds=60)
    assert Reservation.objects.get(pk=hold.id).user_id == alice.pk
    assert set(Quota.objects.values_list("user_id", flat=True)) == {alice.pk}


def answered(user, key, body):
    attempt = Attempt(key, "POST /x", fingerprint=body)
    with claimed(user_id=user.pk, attempt=attempt) as claim:
        finish(claim.id, Answer(200, {}, body.encode()))


def test_an_idempotency_key_of_both_stays_the_targets(merge, alice, bob):
    answered(alice, "same", "alice's")
    answered(bob, "same", "bob's")
    answered(bob, "other", "bob's other")

    merge(bob, alice)

    assert dict(IdempotencyRecord.objects.values_list("fingerprint", "user_id")) == {
        "alice's": alice.pk,
        "bob's other": alice.pk,
    }
    # Who was recognised as the source before calls as the target.
    for key, body in (("same", "alice's"), ("other", "bob's other")):
        with pytest.raises(AnsweredBefore) as before:
            answered(bob, key, body)
        assert before.value.answer.body == body.encode()
    with pytest.raises(IdempotencyMismatch):
        answered(bob, "same", "bob's")
    answered(bob, "new", "new")
    assert set(IdempotencyRecord.objects.values_list("user_id", flat=True)) == {alice.pk}


# Plans -----------------------------------------------------------------------------------------------------------


def on_plan(user, slug, **fields):
    subscription = SubscriptionFactory(user=user, plan=Plan.objects.get(slug=slug), **fields)
    quotas.provision(user_id=user.pk)
    return subscription


def limits(slug):
    return {(limit.unit, limit.resource_type): limit.limit for limit in Plan.objects.get(slug=slug).limits.all()}


def base_limits(user):
    return {(quota.unit, quota.resource_type): quota.base_limit for quota in Quota.objects.filter(user=user)}


@pytest.mark.parametrize(
    ("targets", "sources", "stays"),
    [
        ({}, {}, "target"),
        ({"stripe_subscription_id": "sub_1"}, {}, "target"),
        ({}, {"stripe_subscription_id": "sub_1"}, "source"),
    ],
    ids=["nobody pays", "the target pays", "the source pays"],
)
def test_one_subscription_stays_live_and_the_quotas_follow_it(merge, alice, bob, targets, sources, stays):
    own, theirs = on_plan(alice, "free", **targets), on_plan(bob, "pro", **sources)

    merge(bob, alice)

    kept, ended = (own, theirs) if stays == "target" else (theirs, own)
    kept.refresh_from_db()
    ended.refresh_from_db()
    assert (kept.status, kept.user_id) == ("active", alice.pk)
    assert (ended.status, ended.user_id) == ("canceled", alice.pk)
    assert ended.canceled_at is not None
    assert base_limits(alice).items() >= limits(kept.plan.slug).items()


def test_a_target_without_a_plan_takes_over_the_sources(merge, alice, bob):
    theirs = on_plan(bob, "pro")

    merge(bob, alice)

    assert Subscription.objects.get() == theirs
    assert theirs.user_id != alice.pk
    assert base_limits(alice) == limits("pro")


def test_a_target_that_has_never_called_keeps_its_plan(merge, alice, bob):
    SubscriptionFactory(user=alice, plan=Plan.objects.get(slug="free"))
    on_plan(bob, "pro")
    quotas.consume(user_id=bob.pk, amounts={TOKENS: 1000})

    merge(bob, alice)

    assert base_limits(alice).items() >= limits("free").items()
    assert quota_of(alice, TOKENS).current_usage == 1000


# The database ----------------------------------------------------------------------------------------------------


def test_nothing_is_written_for_who_was_erased(alice):
    erase_user(user_id=alice.pk, by=alice)

    with pytest.raises(IntegrityError) as refusal, transaction.atomic():
        SavedPrompt.objects.create(user=alice, title="Title", content="Content")
    assert refusal.value.__cause__.diag.constraint_name == "user_not_erased"
    with pytest.raises(NotAuthenticated):
        quotas.reserve(user_id=alice.pk, amounts={REQUESTS: 1}, seconds=60)
