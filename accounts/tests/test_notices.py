"""What the owner of an account is told by mail when somebody has changed what lets them in."""

import pytest
from django.core import mail

from accounts import recovery, services
from accounts.models import User
from accounts.tests.factories import PASSWORD
from accounts.tests.mailbox import work

NEW = "another good password"

pytestmark = pytest.mark.django_db


@pytest.fixture
def letters(django_capture_on_commit_callbacks, mailoutbox):
    """Do something, and answer what was sent then: (to, subject)."""

    def after(do):
        with django_capture_on_commit_callbacks(execute=True):
            assert do().status_code < 300
        work()
        return [(letter.to, letter.subject) for letter in mail.outbox]

    return after


def test_the_old_address_is_told_of_a_new_one(api, alice, letters):
    User.objects.update(is_verified=True)
    change = {"email": "new@example.com"}
    sent = letters(lambda: api(alice).patch("/api/v1/users/me", change, content_type="application/json"))

    assert (["alice@example.com"], "Your e-mail address was changed") in sent
    assert "new@example.com" not in str([letter.body for letter in mail.outbox if letter.to == ["alice@example.com"]])


def test_an_address_that_was_never_proven_is_told_nothing(api, alice, letters):
    change = {"email": "new@example.com"}
    sent = letters(lambda: api(alice).patch("/api/v1/users/me", change, content_type="application/json"))

    assert [to for to, _subject in sent] == [["new@example.com"]]


def test_other_changes_are_nobodys_business(api, alice, letters):
    change = {"full_name": "Alice"}

    assert letters(lambda: api(alice).patch("/api/v1/users/me", change, content_type="application/json")) == []


def test_a_new_password_is_told(api, alice, letters):
    body = {"current_password": PASSWORD, "new_password": NEW}
    sent = letters(lambda: api(alice).post("/api/v1/users/me/change-password", body))

    assert sent == [(["alice@example.com"], "Your password was changed")]
    assert NEW not in mail.outbox[0].body


def test_a_password_that_was_reset_is_told_and_ends_the_lock(api, alice, letters):
    for _ in range(10):
        api().post("/api/v1/auth/token", {"email": alice.email, "password": "wrong password"})
    body = {"token": recovery.reset_link(email=alice.email).token, "password": NEW}
    sent = letters(lambda: api().post("/api/v1/auth/password-reset/confirm", body))

    assert sent == [(["alice@example.com"], "Your password was changed")]
    assert api().post("/api/v1/auth/token", {"email": alice.email, "password": NEW}).status_code == 200


def test_an_operators_change_of_somebodys_address_is_no_call_of_ours(alice, olga):
    """Operators tell people themselves what they have done for them."""
    services.administer_user(user_id=alice.pk, by=olga, email="new@example.com")

    assert mail.outbox == []
