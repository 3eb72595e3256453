"""Mails that operators send from a user's page."""

import pytest
from django.contrib.auth.models import Permission

from accounts.models import AuditEvent, User
from accounts.tests.factories import PASSWORD, UserFactory
from accounts.tests.mailbox import token_in, work
from tests.admin import act, messages, page, save

ACTIONS = ["send_verification_mail", "send_password_reset"]


@pytest.fixture
def operator(client, olga):
    client.force_login(olga)
    return client


@pytest.fixture
def committing(django_capture_on_commit_callbacks):
    """What waits for the commit runs when the block ends: tests do not commit."""
    return lambda: django_capture_on_commit_callbacks(execute=True)


@pytest.mark.parametrize(
    ("action", "event"),
    [
        ("send_verification_mail", "user.verification_mail_sent"),
        ("send_password_reset", "user.password_reset_sent"),
    ],
)
def test_an_operator_has_a_mail_sent(operator, olga, alice, committing, mailoutbox, action, event):
    with committing():
        answer = act(operator, alice, action)

    assert messages(answer, operator) == ["The mail to alice@example.com is on its way."]
    assert work() == [action]
    (sent,) = mailoutbox
    assert sent.to == ["alice@example.com"]
    assert token_in(sent) not in operator.get(page(alice)).content.decode()
    recorded = AuditEvent.objects.get(action=event)
    assert (recorded.actor_id, recorded.target_id, recorded.metadata) == (olga.pk, str(alice.pk), {})


@pytest.mark.parametrize("action", ACTIONS)
def test_opening_the_dialog_sends_nothing(operator, alice, committing, action):
    with committing():
        assert operator.get(page(alice, action)).status_code == 200

    assert work() == []


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("fields", [{"is_active": False}, {"email": None}])
def test_who_could_not_use_the_link_gets_none(operator, alice, committing, action, fields):
    User.objects.filter(pk=alice.pk).update(**fields)

    with committing():
        answer = act(operator, alice, action)

    assert "shut out or has no e-mail address" in messages(answer, operator)[0]
    assert work() == []
    assert not AuditEvent.objects.exists()


def test_a_verified_address_needs_no_mail(operator, alice, committing):
    User.objects.filter(pk=alice.pk).update(is_verified=True)

    with committing():
        answer = act(operator, alice, "send_verification_mail")

    assert "verified already" in messages(answer, operator)[0]
    assert work() == []


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(("codes", "status"), [(["view_user"], 403), (["view_user", "change_user"], 200)])
def test_it_takes_the_right_to_change_users(client, alice, action, codes, status):
    helper = UserFactory(is_staff=True)
    helper.user_permissions.set(Permission.objects.filter(codename__in=codes))
    client.force_login(helper)

    assert client.get(page(alice, action)).status_code == status
    assert (page(alice, action) in client.get(page(alice)).content.decode()) == (status == 200)


def test_an_address_that_an_operator_gives_or_changes_gets_a_verification_mail(operator, alice, committing, mailoutbox):
    with committing():
        save(operator, page(alice), email="alice2@example.com")
    with committing():
        save(operator, page(User, "add"), email="new@example.com", password=PASSWORD)
    with committing():
        save(operator, page(User, "add"), email="known@example.com", password=PASSWORD, is_verified="on")
    with committing():
        save(operator, page(alice), full_name="Alice")

    assert work() == ["send_verification_mail"] * 3
    assert [sent.to for sent in mailoutbox] == [["alice2@example.com"], ["new@example.com"]]
