"""The tasks that send mails: to whom, how often, and what happens when something is away."""

import pytest
import time_machine
from celery.exceptions import Retry

from accounts import mail, recovery, tasks
from accounts.models import OneTimeCode, User
from accounts.tests.mailbox import token_in, work

pytestmark = pytest.mark.django_db

FILES = "accounts.mail.FileBackend"


def test_a_verified_address_gets_no_link(alice, mailoutbox):
    User.objects.update(is_verified=True)

    tasks.send_verification_mail(str(alice.pk))
    tasks.send_verification_mail_to(alice.email)

    assert mailoutbox == []
    assert not OneTimeCode.objects.exists()


def test_the_link_leads_to_our_page_or_to_the_products_own(settings, alice, mailoutbox):
    tasks.send_password_reset(alice.email)
    settings.VERIFY_EMAIL_URL = "https://product.example/welcome?t={token}&token={token}"
    tasks.send_verification_mail(str(alice.pk))

    reset, verification = mailoutbox
    assert f"{settings.PUBLIC_URL}/reset-password?token=" in reset.body
    assert settings.PUBLIC_URL.removeprefix("http://") in reset.body
    assert "https://product.example/welcome?t=" in verification.body
    assert "product.example." in verification.body
    recovery.verify_email(token=token_in(verification), ip=None, user_agent="")


def test_an_address_gets_one_mail_a_minute_of_each_kind(alice, bob, mailoutbox):
    with time_machine.travel("2030-01-01T12:00Z", tick=False) as clock:
        for seconds in (0, 59, 60):
            clock.move_to(f"2030-01-01T12:0{seconds // 60}:{seconds % 60:02}Z")
            tasks.send_password_reset("alice@example.com")
            tasks.send_password_reset("ALICE@example.com")
            tasks.send_verification_mail(str(alice.pk))
            tasks.send_verification_mail_to("alice@example.com")
        tasks.send_password_reset(bob.email)

    assert [sent.subject for sent in mailoutbox if sent.to == ["alice@example.com"]] == [
        "Choose a new password",
        "Confirm your e-mail address",
    ] * 2
    assert OneTimeCode.objects.count() == len(mailoutbox) == 5


def test_changing_the_address_to_and_fro_sends_no_more(api, alice, mailoutbox, django_capture_on_commit_callbacks):
    for email in ("victim@example.com", "alice@example.com", "victim@example.com", "victim@example.com"):
        with django_capture_on_commit_callbacks(execute=True):
            assert api(alice).patch("/api/v1/users/me", {"email": email}).status_code == 200
        work()

    assert sorted(sent.to[0] for sent in mailoutbox) == ["alice@example.com", "victim@example.com"]


def test_a_mail_that_cannot_be_sent_is_tried_again_with_a_new_link(settings, alice):
    settings.EMAIL_BACKEND, settings.EMAIL_FILE_PATH = FILES, "/proc/mail"
    task = tasks.send_password_reset
    task.push_request(args=(alice.email,), called_directly=False, retries=0, is_eager=False)
    try:
        with pytest.raises(Retry) as again:
            task.run(alice.email)
    finally:
        task.pop_request()

    assert 0 <= again.value.when <= 30
    assert "alice" not in str(again.value)
    assert not OneTimeCode.objects.exists()


def test_after_a_few_tries_it_is_given_up(settings, alice, tmp_path):
    settings.EMAIL_BACKEND, settings.EMAIL_FILE_PATH = FILES, "/proc/mail"

    with pytest.raises(mail.MailNotSent):
        tasks.send_password_reset.apply((alice.email,), retries=tasks.RETRIES["max_retries"]).get()

    assert not OneTimeCode.objects.exists()
    settings.EMAIL_FILE_PATH = tmp_path
    tasks.send_password_reset(alice.email)
    assert len(list(tmp_path.iterdir())) == 1


def test_nothing_is_enqueued_before_the_commit(alice, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        tasks.enqueue(tasks.send_password_reset, alice.email)
        assert work() == []

    assert work() == ["send_password_reset"]


@pytest.mark.django_db(transaction=True)
def test_without_a_broker_the_mail_is_sent_from_here(api, alice, redis_away, mailoutbox, caplog):
    answer = api().post("/api/v1/auth/password-reset", {"email": alice.email})
    nobody = api().post("/api/v1/auth/password-reset", {"email": "nobody@example.com"})

    tasks._spare_threads().shutdown()
    tasks._spare_threads.cache_clear()
    assert (answer.status_code, nobody.status_code) == (202, 202)
    assert [sent.to for sent in mailoutbox] == [["alice@example.com"]]
    assert "broker_unavailable" in caplog.text
    assert "@example.com" not in caplog.text


@pytest.mark.django_db(transaction=True)
def test_without_broker_and_mail_server_nothing_breaks(api, alice, redis_away, settings, caplog):
    settings.EMAIL_BACKEND, settings.EMAIL_FILE_PATH = FILES, "/proc/mail"

    answer = api().post("/api/v1/auth/password-reset", {"email": alice.email})

    tasks._spare_threads().shutdown()
    tasks._spare_threads.cache_clear()
    assert answer.status_code == 202
    assert "task_failed_without_broker" in caplog.text
    assert "@example.com" not in caplog.text
    assert not OneTimeCode.objects.exists()
