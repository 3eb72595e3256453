"""/verify-email and /reset-password, as browsers and mail scanners use them."""

import re

import pytest
import time_machine
from django.test import Client

from accounts import recovery
from accounts.models import ApiKey, AuditEvent, OneTimeCode, User
from accounts.tests.credentials import api_key
from accounts.tests.factories import PASSWORD

pytestmark = pytest.mark.django_db

VERIFY, RESET = "/verify-email", "/reset-password"
NEW_PASSWORD = "another horse, another battery"


@pytest.fixture
def links(alice):
    return {
        VERIFY: recovery.verification_link(user_id=alice.pk).token,
        RESET: recovery.reset_link(email=alice.email).token,
    }


@pytest.fixture
def browser():
    return Client(enforce_csrf_checks=True)


def send(browser, path, token, **fields):
    """Open the page and send its form, with the fields filled in."""
    html = browser.get(path, {"token": token}).content.decode()
    hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]+)">', html))
    assert re.search(r'<form method="post" action="([^"]+)">', html)[1] == path
    return browser.post(path, hidden | fields)


def text(answer):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", answer.content.decode()))


def test_the_button_verifies_the_address(browser, alice, links):
    answer = send(browser, VERIFY, links[VERIFY])

    assert answer.status_code == 200
    assert "alice@example.com is confirmed as your address. You can close this page" in text(answer)
    alice.refresh_from_db()
    assert alice.is_verified
    assert AuditEvent.objects.get().ip == "127.0.0.1"


def test_the_form_changes_the_password(browser, alice, links):
    key = api_key(alice)

    answer = send(browser, RESET, links[RESET], password=NEW_PASSWORD, again=NEW_PASSWORD)

    assert answer.status_code == 200
    assert "Sign in again as alice@example.com" in text(answer)
    alice.refresh_from_db()
    assert alice.check_password(NEW_PASSWORD)
    assert ApiKey.objects.filter(is_active=True).exists()
    assert key not in answer.content.decode()


def test_the_form_revokes_keys_if_wanted(browser, alice, links):
    api_key(alice)

    answer = send(browser, RESET, links[RESET], password=NEW_PASSWORD, again=NEW_PASSWORD, revoke_api_keys="on")

    assert "Your API keys are revoked." in text(answer)
    assert not ApiKey.objects.filter(is_active=True).exists()


@pytest.mark.parametrize(
    ("fields", "field", "error"),
    [
        ({"password": NEW_PASSWORD, "again": NEW_PASSWORD + "!"}, "again", "The two passwords differ."),
        ({"password": "short", "again": "short"}, "password", "too short"),
        ({"password": "alice@example.com", "again": "alice@example.com"}, "password", "too similar"),
        ({"password": "x" * 2000, "again": "x" * 2000}, "password", "at most 1024"),
        ({"password": "a good one\0", "again": "a good one\0"}, "password", "Null characters"),
        ({"again": NEW_PASSWORD}, "password", "required"),
        ({}, "again", "required"),
    ],
)
def test_what_is_wrong_is_said_at_the_field_and_the_link_stays_good(browser, alice, links, fields, field, error):
    answer = send(browser, RESET, links[RESET], **fields)

    assert answer.status_code == 200
    html = answer.content.decode()
    assert error in html
    assert error in str(answer.context["form"].errors[field])
    assert re.search(rf'<input[^>]*name="{field}"[^>]*aria-invalid="true"', html)
    assert NEW_PASSWORD not in html
    alice.refresh_from_db()
    assert alice.check_password(PASSWORD)
    assert send(browser, RESET, links[RESET], password=NEW_PASSWORD, again=NEW_PASSWORD).status_code == 200


@pytest.mark.parametrize("path", [VERIFY, RESET])
@pytest.mark.parametrize("method", ["get", "head"])
def test_opening_a_link_uses_nothing_up(browser, alice, links, path, method):
    for _ in range(3):
        assert getattr(browser, method)(path, {"token": links[path]}).status_code == 200

    assert not OneTimeCode.objects.exclude(used_at=None).exists()
    assert not User.objects.get().is_verified


@pytest.mark.parametrize("path", [VERIFY, RESET])
def test_the_pages_run_nothing_and_tell_the_token_to_nobody(browser, links, path):
    answer = browser.get(path, {"token": links[path]})

    html = answer.content.decode()
    assert not re.search(r"<script|<style| style=| on\w+=|https?://", html)
    policy = answer.headers["Content-Security-Policy"].split("; ")
    assert "default-src 'none'" in policy
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    assert answer.headers["Referrer-Policy"] == "strict-origin"
    assert "no-store" in answer.headers["Cache-Control"]
    assert answer.headers["X-Frame-Options"] == "DENY"
    for file in re.findall(r'href="(/static/[^"]+)"', html):
        assert browser.get(file).status_code == 200


@pytest.mark.parametrize("path", [VERIFY, RESET])
@pytest.mark.parametrize("token", [None, "", "made up", "x" * 5000, "\0", "<script>"])
def test_a_bad_link_is_a_page_that_says_what_to_do(browser, db, path, token):
    for answer in (
        browser.get(path, {} if token is None else {"token": token}),
        Client().post(path, {"token": token or "", "password": NEW_PASSWORD, "again": NEW_PASSWORD}),
    ):
        assert answer.status_code == 400
        assert answer.headers["Referrer-Policy"] == "strict-origin"
        assert "This link is not valid." in text(answer)
        assert "Ask for a new mail where you sign" in text(answer)
        assert "<script>" not in answer.content.decode()


@pytest.mark.parametrize("path", [VERIFY, RESET])
def test_a_used_link_says_that_nothing_is_left_to_do(browser, links, path):
    form = {"token": links[path], "password": NEW_PASSWORD, "again": NEW_PASSWORD}
    Client().post(path, form)

    for answer in (browser.get(path, form), Client().post(path, form)):
        assert answer.status_code == 400
        assert "This link was used already. If it was you" in text(answer)


@pytest.mark.parametrize("path", [VERIFY, RESET])
def test_a_late_link_says_so(browser, alice, path):
    with time_machine.travel("2030-01-01T12:00Z"):
        link = (
            recovery.verification_link(user_id=alice.pk) if path == VERIFY else recovery.reset_link(email=alice.email)
        )

    with time_machine.travel("2030-01-05T12:00Z"):
        assert "This link has expired. Ask for a new mail" in text(browser.get(path, {"token": link.token}))


@pytest.mark.parametrize("path", [VERIFY, RESET])
def test_another_site_cannot_send_the_form(browser, alice, links, path):
    form = {"token": links[path], "password": NEW_PASSWORD, "again": NEW_PASSWORD}

    assert browser.post(path, form).status_code == 403

    assert not OneTimeCode.objects.exclude(used_at=None).exists()


def test_the_pages_work_while_redis_is_away(browser, alice, links, redis_away):
    assert send(browser, VERIFY, links[VERIFY]).status_code == 200
    assert send(browser, RESET, links[RESET], password=NEW_PASSWORD, again=NEW_PASSWORD).status_code == 200
