"""POST /api/v1/auth/verify-email, and the mails that lead there."""

import pytest
import time_machine
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts import recovery, services
from accounts.models import AuditEvent, OneTimeCode, User
from accounts.tests.factories import PASSWORD, UserFactory
from accounts.tests.mailbox import token_in, work

pytestmark = pytest.mark.django_db

PATH = "/api/v1/auth/verify-email"


@pytest.fixture
def committing(django_capture_on_commit_callbacks):
    """What waits for the commit runs when the block ends: tests do not commit."""
    return lambda: django_capture_on_commit_callbacks(execute=True)


def code_of(answer):
    assert answer.status_code == 400
    return answer.json()["error"]["code"], answer.json()["error"]["param"]


def test_whoever_registers_gets_a_link_that_verifies_the_address(api, committing, mailoutbox):
    with committing():
        api().post("/api/v1/users", {"email": "Carol@Example.com", "password": PASSWORD, "full_name": "Evil.example"})
    assert work() == ["send_verification_mail"]
    (mail,) = mailoutbox
    assert (mail.to, mail.subject) == (["carol@example.com"], "Confirm your e-mail address")
    assert "Evil.example" not in mail.body

    answer = api().post(PATH, {"token": token_in(mail)}, REMOTE_ADDR="10.1.2.3", headers={"User-Agent": "Browser"})

    assert (answer.status_code, answer.json()) == (200, {"email": "carol@example.com", "is_verified": True})
    carol = User.objects.get()
    assert carol.is_verified
    event = AuditEvent.objects.get(action="user.email_verified")
    assert (event.actor_id, event.target_id, event.ip, event.user_agent) == (
        carol.pk,
        str(carol.pk),
        "10.1.2.3",
        "Browser",
    )
    assert event.metadata == {}


def test_a_link_verifies_once(api, alice):
    token = recovery.verification_link(user_id=alice.pk).token
    api().post(PATH, {"token": token})

    assert code_of(api().post(PATH, {"token": token})) == ("link_used", "token")
    assert AuditEvent.objects.filter(action="user.email_verified").count() == 1


def test_a_link_is_good_for_three_days(api, alice):
    with time_machine.travel("2030-01-01T12:00Z", tick=False) as clock:
        token = recovery.verification_link(user_id=alice.pk).token
        clock.move_to("2030-01-04T12:00Z")

        assert code_of(api().post(PATH, {"token": token})) == ("link_expired", "token")
    alice.refresh_from_db()
    assert not alice.is_verified


@pytest.mark.parametrize("token", ["made up", "x" * 101, "x" * 1_000_000, ["a"], 7, None, ""])
def test_what_is_no_link_is_a_clear_refusal(api, db, token):
    assert code_of(api().post(PATH, {"token": token}))[1] == "token"


def test_a_reset_link_verifies_nothing(api, alice):
    token = recovery.reset_link(email=alice.email).token

    assert code_of(api().post(PATH, {"token": token})) == ("invalid_link", "token")


@pytest.mark.parametrize("body", [{}, {"token": "a", "email": "a@example.com"}])
def test_neither_or_both_is_refused(api, db, body):
    assert code_of(api().post(PATH, body)) == ("required", "token")


@pytest.mark.parametrize("email", ["nobody", "c" * 300 + "@example.com", "a@b.example\nBcc: c@d.example", 7, ""])
def test_what_is_no_address_is_a_clear_refusal(api, db, email):
    assert code_of(api().post(PATH, {"email": email}))[1] == "email"


# A changed address --------------------------------------------------------------------------------------------------


def test_a_changed_address_gets_a_link_and_ends_those_sent_before(api, alice, committing, mailoutbox):
    old = [recovery.verification_link(user_id=alice.pk).token, recovery.reset_link(email=alice.email).token]

    with committing():
        api(alice).patch("/api/v1/users/me", {"email": "new@example.com"})
    assert work() == ["send_verification_mail"]

    assert mailoutbox[0].to == ["new@example.com"]
    assert code_of(api().post(PATH, {"token": old[0]})) == ("invalid_link", "token")
    answer = api().post("/api/v1/auth/password-reset/confirm", {"token": old[1], "password": "a long and odd one"})
    assert code_of(answer) == ("invalid_link", "token")
    assert api().post(PATH, {"token": token_in(mailoutbox[0])}).status_code == 200


def test_a_link_is_worth_nothing_where_the_address_was_changed_otherwise(api, alice):
    token = recovery.verification_link(user_id=alice.pk).token
    User.objects.update(email="other@example.com")

    assert code_of(api().post(PATH, {"token": token})) == ("invalid_link", "token")
    assert OneTimeCode.objects.get().used_at is None


@pytest.mark.parametrize("change", [{"full_name": "Alice"}, {"email": "ALICE@example.com"}])
def test_other_changes_send_nothing_and_end_no_link(api, alice, committing, change):
    token = recovery.verification_link(user_id=alice.pk).token

    with committing():
        api(alice).patch("/api/v1/users/me", change)

    assert work() == []
    assert api().post(PATH, {"token": token}).status_code == 200


# Who gets none -----------------------------------------------------------------------------------------------------


def shut_out(user, bob):
    services.set_user_active(user=user, is_active=False, by=bob)


def merge(user, bob):
    User.objects.filter(pk=user.pk).update(is_active=False, merged_into=bob)


def erase(user, bob):
    User.objects.filter(pk=user.pk).update(is_active=False, email=None, erased_at="2030-01-01T00:00Z")


@pytest.mark.parametrize("end", [shut_out, merge, erase])
def test_who_is_gone_gets_no_link_and_cannot_use_one_sent_before(api, alice, bob, end, mailoutbox):
    verification, reset = recovery.verification_link(user_id=alice.pk), recovery.reset_link(email=alice.email)
    OneTimeCode.objects.update(created_at="2020-01-01T00:00Z")
    end(alice, bob)

    assert recovery.verification_link(user_id=alice.pk) is None
    assert recovery.verification_link_for(email="alice@example.com") is None
    assert recovery.reset_link(email="alice@example.com") is None
    assert code_of(api().post(PATH, {"token": verification.token})) == ("invalid_link", "token")
    answer = api().post("/api/v1/auth/password-reset/confirm", {"token": reset.token, "password": "a long and odd one"})
    assert code_of(answer) == ("invalid_link", "token")
    alice.refresh_from_db()
    assert alice.check_password(PASSWORD)


# Once more -----------------------------------------------------------------------------------------------------------


def test_the_answer_is_the_same_for_every_address(api, alice, committing, mailoutbox):
    UserFactory(email="verified@example.com", is_verified=True)
    seen = set()
    for email in ("ALICE@example.com", "verified@example.com", "nobody@example.com"):
        with committing(), CaptureQueriesContext(connection) as captured:
            answer = api().post(PATH, {"email": email})
        headers = {name: value for name, value in answer.headers.items() if name != "X-Request-ID"}
        seen.add((answer.status_code, answer.content, len(captured), str(headers)))
        assert work() == ["send_verification_mail_to"]

    assert [found[:3] for found in seen] == [(202, b"{}", 0)]
    assert [mail.to for mail in mailoutbox] == [["alice@example.com"]]


@time_machine.travel("2030-01-01T12:00Z", tick=False)
def test_too_many_attempts_from_one_address_are_turned_away(api, settings):
    settings.RATELIMIT_RESET = "2/m"

    assert [api().post(PATH, {"token": "made up"}).status_code for _ in range(3)] == [400, 400, 429]
    assert api().post(PATH, {"token": "made up"}, REMOTE_ADDR="10.0.0.9").status_code == 400
