"""Two users are merged while one of them is at work: nothing is lost, stranded or left behind."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial

import pytest
from django.db import IntegrityError, connection
from django.utils import timezone

from accounts.belongings import all_belongings
from accounts.caller import Caller
from accounts.erasing import erase_user
from accounts.exceptions import DomainError
from accounts.merging import merge_users
from accounts.models import AuditEvent, User
from accounts.tests.factories import UserFactory
from conversations import services as conversations
from conversations.models import Conversation, Message
from inference.models import Model, Provider, Request
from inference.services import Status, Usage
from prompts.models import SavedPrompt
from quotas import services as quotas
from quotas.idempotency import Answer, Attempt, claimed
from quotas.meters import Meter
from quotas.models import IdempotencyRecord, Quota, Reservation
from quotas.tests.test_concurrency import while_another_transaction_runs

THREADS, ROUNDS = 8, 6
REQUESTS, TOKENS = Meter("llm", "requests"), Meter("llm", "tokens")
PAYLOAD = {"model": "some-model", "max_tokens": 5, "messages": [{"role": "user", "content": "Hello"}]}

pytestmark = pytest.mark.django_db(transaction=True)


class Work:
    """Eight threads that go on working as a user until they are told to stop."""

    def __init__(self, user):
        self.user, self.over = user, threading.Event()
        self.refusals, self.charged, self.done = [], 0, 0
        self.lock = threading.Lock()

    def run(self, number):
        rng = random.Random(number)
        kinds = [self.hold, self.hold, self.chat, self.write, partial(self.hold, release=True)]
        try:
            while not self.over.is_set():
                try:
                    rng.choice(kinds)()
                    self.done += 1
                except DomainError as refusal:
                    self.refusals.append(refusal.code)
                except IntegrityError as error:
                    self.refusals.append(error.__cause__.diag.constraint_name)
        finally:
            connection.close()

    def hold(self, release=False):
        hold = quotas.reserve(user_id=self.user.pk, amounts={REQUESTS: 1, TOKENS: 10}, seconds=60)
        if release:
            quotas.release(reservation_id=hold.id)
            return
        quotas.settle(reservation_id=hold.id, used={REQUESTS: 1, TOKENS: 7})
        self.count(7)

    def chat(self):
        talk = Conversation.objects.create(user_id=self.user.pk)
        caller, attempt = Caller(user_id=self.user.pk), Attempt(str(talk.pk), "POST /x", "0")
        with claimed(user_id=caller.user_id, attempt=attempt) as claim:
            turn = conversations.open_chat(caller=caller, payload=PAYLOAD, conversation_id=str(talk.pk), claim=claim)
        outcome = turn.call.outcome
        outcome.answer = Answer(200, {}, b"Hello!")
        outcome.status, outcome.usage, outcome.text = Status.SUCCESS, Usage.REPORTED, "Hello!"
        outcome.input_tokens, outcome.output_tokens = 5, 2
        turn.settle()
        self.count(7)

    def write(self):
        SavedPrompt.objects.create(user_id=self.user.pk, title="Title", content="Content")

    def count(self, tokens):
        with self.lock:
            self.charged += tokens


def while_working(users, action):
    """Let each user work in THREADS threads, do `action` in the midst of it, and answer the works."""
    works = [Work(user) for user in users]
    with ThreadPoolExecutor(THREADS * len(users)) as threads:
        running = [threads.submit(work.run, number) for work in works for number in range(THREADS)]
        try:
            time.sleep(0.15)
            action()
            time.sleep(0.1)
        finally:
            for work in works:
                work.over.set()
        for future in running:
            future.result()
    return works


@pytest.fixture(autouse=True)
def model(transactional_db):
    provider = Provider.objects.create(name="provider", base_url="http://127.0.0.1:9/v1")
    return Model.objects.create(name="some-model", upstream_name="m", provider=provider)


@pytest.fixture
def operator(transactional_db):
    return UserFactory(is_staff=True, is_superuser=True)


def assert_nothing_belongs_to(user_id):
    for belonging in all_belongings():
        if belonging.model not in {User, AuditEvent}:
            assert not belonging.rows_of(user_id).exists(), belonging.model


def roomy(user):
    quotas.provision(user_id=user.pk)
    Quota.objects.filter(user=user).update(limit=10**12, base_limit=10**12)


@pytest.mark.parametrize("number", [0, *(pytest.param(number, marks=pytest.mark.drill) for number in range(1, ROUNDS))])
@pytest.mark.parametrize("target_has", ["called", "never called"])
def test_a_merge_in_the_midst_of_work(operator, target_has, number):
    source, target = (UserFactory(), UserFactory()) if number % 2 else reversed((UserFactory(), UserFactory()))
    roomy(source)
    if target_has == "called":
        roomy(target)
    users = [source, target] if target_has == "called" and number > 1 else [source]

    works = while_working(users, lambda: merge_users(source_id=source.pk, target_id=target.pk, by=operator))

    assert all(work.done for work in works)
    # A conversation that was looked for under its former owner.
    assert {code for work in works for code in work.refusals} <= {"not_found"}
    assert_nothing_belongs_to(source.pk)
    rows = {quota.meter: quota for quota in Quota.objects.filter(user=target)}
    charged = sum(work.charged for work in works)
    assert (rows[TOKENS].current_usage, rows[REQUESTS].current_usage) == (charged, charged // 7)
    assert set(Quota.objects.values_list("held", flat=True)) == {0}
    assert set(Reservation.objects.values_list("status", flat=True)) <= {"confirmed", "released"}
    assert set(IdempotencyRecord.objects.values_list("status", flat=True)) <= {"done"}
    recorded = sum(sum(charge.values()) for charge in Reservation.objects.values_list("charged", flat=True))
    assert recorded == sum(quota.current_usage for quota in Quota.objects.filter(user=target))
    assert not Request.objects.exclude(status="success").exists()
    assert Message.objects.filter(role="assistant").count() == Request.objects.count()


def hold(user):
    return quotas.reserve(user_id=user.pk, amounts={REQUESTS: 1}, seconds=60).id


def test_a_hold_that_waits_for_a_merge_is_the_targets(operator):
    source, target = UserFactory(), UserFactory()
    roomy(source)

    held = while_another_transaction_runs(
        lambda: merge_users(source_id=source.pk, target_id=target.pk, by=operator), lambda: hold(source)
    )

    assert Reservation.objects.get(pk=held).user_id == target.pk
    assert_nothing_belongs_to(source.pk)


@pytest.mark.parametrize("ends", ["settled", "settled late", "released"])
def test_a_call_that_ends_while_its_user_is_merged(operator, ends):
    source, target = UserFactory(), UserFactory()
    roomy(source)
    roomy(target)
    held = hold(source)
    if ends == "settled late":
        quotas.sweep_expired(now=timezone.now() + timedelta(hours=1))

    def end():
        if ends == "released":
            quotas.release(reservation_id=held)
        else:
            quotas.settle(reservation_id=held, used={REQUESTS: 1})

    while_another_transaction_runs(lambda: merge_users(source_id=source.pk, target_id=target.pk, by=operator), end)

    quota = Quota.objects.get(user=target, resource_type="llm", unit="requests")
    assert (quota.current_usage, quota.held) == (0 if ends == "released" else 1, 0)


def test_a_hold_that_waits_for_a_change_of_address_is_admitted():
    user = UserFactory()
    roomy(user)

    held = while_another_transaction_runs(
        lambda: User.objects.filter(pk=user.pk).update(email="new@example.com"), lambda: hold(user)
    )

    assert Reservation.objects.get(pk=held).user_id == user.pk


def test_a_prompt_that_waits_for_two_merges_is_the_last_targets(operator):
    users = [UserFactory() for _ in range(3)]

    def merge_twice():
        merge_users(source_id=users[0].pk, target_id=users[1].pk, by=operator)
        merge_users(source_id=users[1].pk, target_id=users[2].pk, by=operator)

    while_another_transaction_runs(merge_twice, Work(users[0]).write)

    assert SavedPrompt.objects.get().user_id == users[2].pk


@pytest.mark.parametrize("number", range(2))
def test_an_erasure_in_the_midst_of_work(number):
    user = UserFactory()
    roomy(user)

    (work,) = while_working([user], lambda: erase_user(user_id=user.pk, by=user))

    assert work.done
    for model in (Conversation, Message, SavedPrompt):
        assert not model.objects.exists()
    assert not Request.objects.filter(status="running").exists()
    assert not Request.objects.exclude(request_data={}).exists()
    assert not Request.objects.exclude(response_data=None).exists()
    assert set(Quota.objects.values_list("held", flat=True)) == {0}
    recorded = sum(sum(charge.values()) for charge in Reservation.objects.values_list("charged", flat=True))
    assert recorded == sum(Quota.objects.values_list("current_usage", flat=True))
    assert set(work.refusals) <= {"account_inactive", "not_found", "user_not_erased"}
