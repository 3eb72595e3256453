"""Passwords that are checked: what is audited, what it costs, and when guessing is stopped."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from unittest.mock import patch

import pytest
import time_machine
from axes.models import AccessAttempt
from django.contrib.auth import hashers
from django.contrib.sessions.models import Session
from django.test import Client, RequestFactory

from accounts import sign_in
from accounts.exceptions import NotAuthenticated, TooManyAttempts
from accounts.models import AuditEvent
from accounts.tests.factories import PASSWORD

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
LIMIT = 10
QUARTER = 15 * 60

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def noon():
    with time_machine.travel(NOON, tick=False) as clock:
        yield clock


def check(email="alice@example.com", password=PASSWORD, *, ip="192.0.2.1", browser="Browser"):
    request = RequestFactory(headers={"User-Agent": browser}).post("/", {"password": password}, REMOTE_ADDR=ip)
    return sign_in.check_password(request, email, password)


def fail(times=1, **given):
    for _ in range(times):
        with pytest.raises(NotAuthenticated) as refusal:
            check(**{"password": "wrong"} | given)
        assert refusal.value.code == "invalid_credentials"


def wait_of(**given):
    with pytest.raises(TooManyAttempts) as refusal:
        check(**given)
    return refusal.value.retry_after


# What is checked and written down -------------------------------------------------------------------------------------


@pytest.mark.parametrize("email", ["alice@example.com", " ALICE@example.com ", "Alice@Example.COM"])
def test_the_right_password_names_the_user_and_signs_nobody_in(alice, email):
    assert check(email) == alice
    assert not AuditEvent.objects.exists()


def test_success_is_written_down_by_whoever_lets_the_user_in(alice):
    sign_in.record_success(user=alice, ip="192.0.2.1", user_agent="Browser", how="password")

    event = AuditEvent.objects.get()
    assert (event.action, event.actor_id, event.target_id) == ("auth.signed_in", alice.pk, str(alice.pk))
    assert (event.ip, event.user_agent, event.metadata) == ("192.0.2.1", "Browser", {"how": "password"})


def test_failure_is_written_down_without_what_was_typed(alice):
    fail(password="my other password")
    fail(email="nobody@example.com", password="my other password")

    unknown, known = AuditEvent.objects.all()
    for event in (known, unknown):
        assert (event.action, event.status, event.actor_id) == ("auth.sign_in_failed", "failure", None)
        assert (event.ip, event.user_agent, event.metadata) == ("192.0.2.1", "Browser", {})
    assert (known.target_id, unknown.target_id) == (str(alice.pk), "")


def spent(**given):
    """How often the hasher worked."""
    hasher = hashers.get_hasher("default")
    with (
        patch.object(type(hasher), "encode", autospec=True, side_effect=type(hasher).encode) as encode,
        patch.object(hashers, "get_hasher", lambda *_args: hasher),
        patch.object(hashers, "identify_hasher", lambda _encoded: hasher),
    ):
        with suppress(NotAuthenticated, TooManyAttempts):
            check(**given)
        return encode.call_count


def test_a_refusal_takes_the_same_work_whatever_its_reason(alice, bob, olga):
    bob.is_active = False
    bob.save()
    olga.set_unusable_password()
    olga.save()

    work = {
        "right": spent(),
        "wrong": spent(password="wrong"),
        "unknown": spent(email="nobody@example.com"),
        "shut out": spent(email=bob.email),
        "no password": spent(email=olga.email),
    }

    assert work == dict.fromkeys(work, 1)


# When guessing is stopped ---------------------------------------------------------------------------------------------


def test_after_ten_failures_even_the_right_password_is_refused_unread(alice):
    fail(LIMIT)

    assert wait_of() == QUARTER
    assert wait_of(password="wrong") == QUARTER
    assert spent() == 0


def test_the_lock_ends_by_time_and_trying_on_does_not_prolong_it(alice, noon):
    fail(LIMIT)
    noon.shift(QUARTER - 1)
    assert wait_of(password="wrong") == 1
    assert wait_of() == 1

    noon.shift(2)

    assert check() == alice
    fail()
    assert check() == alice


def test_only_this_address_from_this_ip_is_locked(alice, bob):
    fail(LIMIT)

    assert check(ip="192.0.2.2") == alice
    assert check(email=bob.email) == bob
    wait_of()


def test_all_spellings_and_all_browsers_share_one_count(alice):
    spellings = ["alice@example.com", "ALICE@example.com", " alice@example.com", "Alice@Example.com "]
    for number in range(LIMIT):
        fail(email=spellings[number % 4], browser=f"Browser {number}")

    assert wait_of(browser="Another") == QUARTER


def test_a_lock_by_several_browsers_ends_when_the_first_failure_is_forgotten(alice, noon):
    for number in range(LIMIT):
        fail(browser=f"Browser {number}")
        noon.shift(10)

    assert wait_of() == QUARTER - LIMIT * 10
    noon.shift(QUARTER - LIMIT * 10 + 1)
    assert check() == alice


def test_an_address_without_an_account_is_locked_all_the_same(db):
    fail(LIMIT, email="nobody@example.com")

    assert wait_of(email="nobody@example.com") == QUARTER


def test_success_forgets_the_failures_before(alice):
    fail(LIMIT - 1)
    sign_in.record_success(user=alice, ip="192.0.2.1", user_agent="", how="password")

    fail(LIMIT - 1)
    assert check() == alice


def test_the_right_password_alone_forgets_nothing(alice):
    """With a second factor, the password is only half of it."""
    fail(LIMIT - 1)
    check()
    fail()

    wait_of()


def test_success_elsewhere_does_not_end_a_lock(alice):
    fail(LIMIT)
    sign_in.record_success(user=alice, ip="192.0.2.2", user_agent="", how="password")

    wait_of()


def test_the_limit_and_the_time_are_settings(alice, settings):
    settings.AXES_FAILURE_LIMIT = 2
    settings.AXES_COOLOFF_TIME = timedelta(minutes=1)
    fail(2)

    assert wait_of() == 60


def test_many_attempts_leave_little_behind(alice):
    for _ in range(5 * LIMIT):
        with pytest.raises((NotAuthenticated, TooManyAttempts)):
            check(password="my other password")

    row = AccessAttempt.objects.get()
    assert row.failures_since_start == LIMIT
    assert len(row.post_data) + len(row.get_data) < 2000
    assert "my other password" not in row.post_data
    assert AuditEvent.objects.count() == LIMIT
    assert not Session.objects.exists()


def test_rows_are_deleted_when_they_are_old(alice, noon):
    for number in range(5):
        fail(email=f"nobody{number}@example.com")
    noon.shift(QUARTER + 1)

    fail()

    assert AccessAttempt.objects.get().username == alice.email


@pytest.mark.parametrize("email", ["", " ", "x" * 5000, "ä" * 300 + "@example.com"])
def test_no_address_breaks_the_count(db, email):
    fail(LIMIT, email=email)

    wait_of(email=email)


def test_the_admin_says_so_on_its_page(olga):
    client = Client()
    given = {"username": " OLGA@example.com", "password": "wrong"}
    for _ in range(LIMIT):
        answer = client.post("/admin/login/", given)
        assert answer.status_code == 200
        assert "The e-mail address or the password is wrong." in answer.content.decode()

    answer = client.post("/admin/login/", given | {"password": PASSWORD})

    assert (answer.status_code, answer["Retry-After"]) == (429, str(QUARTER))
    assert "There were too many wrong attempts. Try again in 900 seconds." in answer.content.decode()
    assert client.get("/admin/").status_code == 302
    assert PASSWORD not in answer.content.decode()


def test_without_redis_nobody_is_signed_in_to_the_admin_and_is_told_so(olga, redis_away):
    client = Client(raise_request_exception=False)
    answer = client.post("/admin/login/", {"username": olga.email, "password": PASSWORD})

    assert answer.status_code == 503
    assert answer["Content-Type"].startswith("text/html")
