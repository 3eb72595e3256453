"""POST /api/v1/auth/password-reset and …/confirm."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import time_machine
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts import recovery
from accounts.exceptions import InvalidInput
from accounts.models import ApiKey, AuditEvent, OneTimeCode, User
from accounts.tests.credentials import api_key
from accounts.tests.factories import PASSWORD
from accounts.tests.mailbox import token_in, work

pytestmark = pytest.mark.django_db

PATH = "/api/v1/auth/password-reset"
CONFIRM = f"{PATH}/confirm"
NEW_PASSWORD = "another horse, another battery"


@pytest.fixture
def committing(django_capture_on_commit_callbacks):
    """What waits for the commit runs when the block ends: tests do not commit."""
    return lambda: django_capture_on_commit_callbacks(execute=True)


@pytest.fixture
def token(alice):
    return recovery.reset_link(email=alice.email).token


def code_of(answer):
    assert answer.status_code == 400
    return answer.json()["error"]["code"], answer.json()["error"]["param"]


def test_who_forgot_the_password_gets_a_link_to_a_new_one(api, alice, committing, mailoutbox):
    with committing():
        asked = api().post(PATH, {"email": "ALICE@example.com"})
    assert (asked.status_code, asked.json()) == (202, {})
    assert work() == ["send_password_reset"]
    (mail,) = mailoutbox
    assert (mail.to, mail.subject) == (["alice@example.com"], "Choose a new password")

    answer = api().post(CONFIRM, {"token": token_in(mail), "password": NEW_PASSWORD}, REMOTE_ADDR="10.1.2.3")

    assert (answer.status_code, answer.content) == (204, b"")
    signed_in = api().post("/api/v1/auth/token", {"email": "alice@example.com", "password": NEW_PASSWORD})
    assert signed_in.status_code == 200
    alice.refresh_from_db()
    assert alice.is_verified
    assert alice.password_changed_at is not None
    events = {event.action: event for event in AuditEvent.objects.filter(target_id=alice.pk)}
    assert {"user.password_reset", "user.password_changed", "user.email_verified"} <= events.keys()
    assert events["user.password_reset"].ip == events["user.password_changed"].ip == "10.1.2.3"
    assert NEW_PASSWORD not in str([event.metadata for event in events.values()])


def test_the_answer_is_the_same_for_every_address(api, alice, committing, mailoutbox):
    seen = set()
    for email in ("alice@example.com", "nobody@example.com"):
        with committing(), CaptureQueriesContext(connection) as captured:
            answer = api().post(PATH, {"email": email})
        headers = {name: value for name, value in answer.headers.items() if name != "X-Request-ID"}
        seen.add((answer.status_code, answer.content, len(captured), str(headers)))
        assert work() == ["send_password_reset"]

    assert [found[:3] for found in seen] == [(202, b"{}", 0)]
    assert len(mailoutbox) == 1


def test_a_link_is_good_once(api, alice, token):
    api().post(CONFIRM, {"token": token, "password": NEW_PASSWORD})

    answer = api().post(CONFIRM, {"token": token, "password": "yet another good password"})

    assert code_of(answer) == ("link_used", "token")
    alice.refresh_from_db()
    assert alice.check_password(NEW_PASSWORD)


@pytest.mark.parametrize("password", ["short", "1234567890123", "alice@example.com"])
def test_a_weak_password_does_not_burn_the_link(api, alice, token, password):
    assert code_of(api().post(CONFIRM, {"token": token, "password": password})) == ("weak_password", "password")

    alice.refresh_from_db()
    assert alice.check_password(PASSWORD)
    assert not AuditEvent.objects.exists()
    assert api().post(CONFIRM, {"token": token, "password": NEW_PASSWORD}).status_code == 204


def test_a_link_is_good_for_an_hour(api, alice):
    with time_machine.travel("2030-01-01T12:00Z", tick=False) as clock:
        token = recovery.reset_link(email=alice.email).token
        clock.move_to("2030-01-01T13:00Z")

        assert code_of(api().post(CONFIRM, {"token": token, "password": NEW_PASSWORD})) == ("link_expired", "token")
    alice.refresh_from_db()
    assert alice.check_password(PASSWORD)


def test_a_reset_ends_all_other_reset_links(api, alice, token):
    OneTimeCode.objects.update(created_at="2020-01-01T00:00Z")
    newer = recovery.reset_link(email=alice.email).token

    assert api().post(CONFIRM, {"token": token, "password": NEW_PASSWORD}).status_code == 204

    assert code_of(api().post(CONFIRM, {"token": newer, "password": PASSWORD})) == ("invalid_link", "token")


def test_a_verification_link_resets_nothing(api, alice):
    token = recovery.verification_link(user_id=alice.pk).token

    assert code_of(api().post(CONFIRM, {"token": token, "password": NEW_PASSWORD})) == ("invalid_link", "token")


@pytest.mark.parametrize("revoke", [True, False])
def test_keys_are_revoked_if_wanted(api, alice, bob, token, revoke):
    for user in (alice, alice, bob):
        api_key(user)

    api().post(CONFIRM, {"token": token, "password": NEW_PASSWORD, "revoke_api_keys": revoke})

    assert ApiKey.objects.filter(user=alice, is_active=True).count() == (0 if revoke else 2)
    assert ApiKey.objects.filter(user=bob, is_active=True).exists()
    assert AuditEvent.objects.get(action="user.password_changed").metadata["keys_revoked"] == (2 if revoke else 0)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"password": "x" * 1_000_000}, "password"),
        ({"password": None}, "password"),
        ({"password": ""}, "password"),
        ({"token": "x" * 1_000_000}, "token"),
        ({"token": ""}, "token"),
        ({"token": "made up"}, "token"),
        ({"revoke_api_keys": "perhaps"}, "revoke_api_keys"),
    ],
)
def test_malformed_fields_are_named(api, alice, token, change, param):
    assert code_of(api().post(CONFIRM, {"token": token, "password": NEW_PASSWORD} | change))[1] == param


@pytest.mark.parametrize("body", [{}, {"email": "nobody"}, {"email": "c" * 300 + "@example.com"}, {"email": None}])
def test_what_is_no_address_is_a_clear_refusal(api, db, body):
    assert code_of(api().post(PATH, body))[1] == "email"


@time_machine.travel("2030-01-01T12:00Z", tick=False)
@pytest.mark.parametrize(("path", "status"), [(PATH, 202), (CONFIRM, 400)])
def test_too_many_attempts_from_one_address_are_turned_away(api, db, settings, path, status):
    settings.RATELIMIT_RESET = "2/m"
    body = {"email": "a@example.com", "token": "made up", "password": NEW_PASSWORD}

    assert [api().post(path, body).status_code for _ in range(3)] == [status, status, 429]
    assert api().post(path, body, REMOTE_ADDR="10.0.0.9").status_code == status


@pytest.mark.django_db(transaction=True)
def test_of_many_resets_with_one_link_one_succeeds(alice):
    token = recovery.reset_link(email=alice.email).token
    barrier = Barrier(4)

    def reset(number):
        barrier.wait()
        try:
            recovery.reset_password(token=token, password=f"{NEW_PASSWORD} {number}", ip=None, user_agent="")
        except InvalidInput as refused:
            return refused.code
        else:
            return number
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(reset, range(4)))

    (winner,) = [result for result in results if isinstance(result, int)]
    assert [result for result in results if result != winner] == ["link_used"] * 3
    assert User.objects.get().check_password(f"{NEW_PASSWORD} {winner}")
    assert AuditEvent.objects.filter(action="user.password_reset").count() == 1
