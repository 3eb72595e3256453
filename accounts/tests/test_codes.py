"""Codes that are good once: for their purpose, for their time, for one of any number of attempts."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
import time_machine
from django.core.signing import Signer
from django.db import connection

from accounts import codes
from accounts.exceptions import InvalidInput
from accounts.models import OneTimeCode

pytestmark = pytest.mark.django_db

Purpose = OneTimeCode.Purpose
HOUR = timedelta(hours=1)


def make(user, purpose=Purpose.VERIFY_EMAIL, lifetime=HOUR):
    return codes.make_link_token(user=user, purpose=purpose, lifetime=lifetime, email=user.email)


def refusal(call, **arguments):
    with pytest.raises(InvalidInput) as refused:
        call(**{"purpose": Purpose.VERIFY_EMAIL} | arguments)
    return refused.value.code, refused.value.param


def test_a_link_is_good_once(alice):
    token = make(alice)

    found = codes.find(token=token, purpose=Purpose.VERIFY_EMAIL)
    used = codes.use(token=token, purpose=Purpose.VERIFY_EMAIL)

    assert found == used
    assert (found.used_at, used.user, used.email) == (None, alice, "alice@example.com")
    assert used.used_at is not None
    assert refusal(codes.use, token=token) == refusal(codes.find, token=token) == ("link_used", "token")


def test_only_a_hash_of_256_random_bits_is_kept(alice):
    tokens = [make(alice) for _ in range(20)]

    stored = set(OneTimeCode.objects.values_list("code_hash", flat=True))
    assert stored == {hashlib.sha256(token.partition(".")[0].encode()).hexdigest() for token in tokens}
    assert len(stored) == 20
    assert {len(token.partition(".")[0]) for token in tokens} == {43}
    assert max(map(len, tokens)) <= codes.LONGEST_TOKEN


@pytest.mark.parametrize(
    "forge",
    [
        lambda token: "",
        lambda token: "made up",
        lambda token: token[:-1] + ("A" if token[-1] != "A" else "B"),
        lambda token: token.partition(".")[0],
        lambda token: Signer(sep=".").sign(token.partition(".")[0]),
        lambda token: Signer(sep=".", salt="accounts.codes.verify_email", key="another").sign(token.partition(".")[0]),
        lambda token: token + "\0",
        lambda token: token * 100_000,
        lambda token: "\N{PILE OF POO}." * 9,
    ],
)
def test_a_forged_link_is_refused_without_asking_the_database(alice, django_assert_num_queries, forge):
    token = forge(make(alice))

    with django_assert_num_queries(0):
        assert refusal(codes.use, token=token) == ("invalid_link", "token")


def test_a_link_is_good_for_its_own_purpose_alone(alice):
    token = make(alice, Purpose.VERIFY_EMAIL)

    assert refusal(codes.use, token=token, purpose=Purpose.RESET_PASSWORD) == ("invalid_link", "token")
    assert codes.use(token=token, purpose=Purpose.VERIFY_EMAIL)


def test_a_hash_is_good_for_its_own_purpose_alone(alice):
    codes.store(user_id=alice.pk, purpose=Purpose.LINK_CHANNEL, code_hash="0" * 64, lifetime=HOUR)

    assert refusal(codes.use_by_hash, code_hash="0" * 64) == ("invalid_link", "token")


def test_a_link_that_is_not_in_the_database_is_invalid(alice):
    token = make(alice)
    OneTimeCode.objects.all().delete()

    assert refusal(codes.use, token=token) == ("invalid_link", "token")


def test_a_link_expires_to_the_second(alice):
    with time_machine.travel("2030-01-01T12:00Z", tick=False) as clock:
        first, second = make(alice), make(alice)
        clock.move_to("2030-01-01T12:59:59Z")
        codes.use(token=first, purpose=Purpose.VERIFY_EMAIL)
        clock.move_to("2030-01-01T13:00Z")

        assert refusal(codes.find, token=second) == refusal(codes.use, token=second) == ("link_expired", "token")
        assert refusal(codes.use, token=first) == ("link_used", "token")
    assert OneTimeCode.objects.filter(used_at=None).count() == 1


def test_voiding_ends_the_unused_links_of_one_user_and_purpose(alice, bob):
    used, mine, other, bobs = make(alice), make(alice), make(alice, Purpose.RESET_PASSWORD), make(bob)
    codes.use(token=used, purpose=Purpose.VERIFY_EMAIL)

    codes.void(user_id=alice.pk, purpose=Purpose.VERIFY_EMAIL)

    assert refusal(codes.use, token=mine) == refusal(codes.find, token=mine) == ("invalid_link", "token")
    assert refusal(codes.use, token=used) == ("link_used", "token")
    assert codes.use(token=other, purpose=Purpose.RESET_PASSWORD)
    assert codes.use(token=bobs, purpose=Purpose.VERIFY_EMAIL)
    assert OneTimeCode.objects.count() == 4


def test_a_withdrawn_link_is_gone(alice):
    token = make(alice)

    codes.withdraw(token=token, purpose=Purpose.VERIFY_EMAIL)

    assert not OneTimeCode.objects.exists()


def test_codes_that_are_typed_in_share_the_rules_and_speak_of_codes(alice):
    codes.store(user_id=alice.pk, purpose=Purpose.LINK_CHANNEL, code_hash="a" * 64, lifetime=HOUR)

    def use(code_hash):
        return codes.use_by_hash(code_hash=code_hash, purpose=Purpose.LINK_CHANNEL, noun="code", param="code")

    assert use("a" * 64).user == alice
    for code_hash, expected in (("a" * 64, "code_used"), ("b" * 64, "invalid_code")):
        with pytest.raises(InvalidInput) as refused:
            use(code_hash)
        assert (refused.value.code, refused.value.param) == (expected, "code")


@pytest.mark.django_db(transaction=True)
def test_of_many_uses_at_once_one_succeeds(alice):
    token = make(alice)
    barrier = Barrier(8)

    def use(_number):
        barrier.wait()
        try:
            codes.use(token=token, purpose=Purpose.VERIFY_EMAIL)
        except InvalidInput as refused:
            return refused.code
        else:
            return "used"
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(use, range(8)))

    assert sorted(results) == [*["link_used"] * 7, "used"]
