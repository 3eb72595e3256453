"""What happens around every request: its id, the caller's address, headers, and which layers it passes."""

import os
import re
import subprocess
import sys

import pytest
from django.test import Client, RequestFactory, override_settings

from accounts.models import AuditEvent
from accounts.tests.factories import PASSWORD
from config.middleware import client_ip

pytestmark = pytest.mark.django_db

PATHS = ["/healthz", "/api/v1/plans", "/api/v1/nothing", "/api/schema", "/admin/login/", "/nothing", "/v1/nothing"]


@pytest.mark.parametrize("path", PATHS)
def test_every_answer_has_an_id_of_its_own(api, path):
    first, second = (api().get(path)["X-Request-ID"] for _ in range(2))

    assert re.fullmatch(r"[0-9a-f]{32}", first)
    assert first != second


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("given", ["a", "abc-123_X.9", "x" * 64])
def test_the_callers_id_is_kept(api, path, given):
    assert api().get(path, headers={"X-Request-ID": given})["X-Request-ID"] == given


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", "a\tb", "a;b", "<script>", "é", "a/b", "a\nb", "a\n"])
def test_an_id_that_could_do_harm_is_replaced(api, given):
    answer = api().get("/healthz", headers={"X-Request-ID": given})

    assert re.fullmatch(r"[0-9a-f]{32}", answer["X-Request-ID"])


@pytest.mark.parametrize("path", PATHS)
def test_no_content_is_guessed_at(api, path):
    assert api().get(path)["X-Content-Type-Options"] == "nosniff"


def test_the_api_needs_no_cookie_and_sets_none(api, alice):
    answer = api(alice).post("/api/v1/conversations", headers={"Origin": "https://elsewhere.example"})

    assert answer.status_code == 201
    assert not answer.cookies


def test_a_session_of_the_admin_is_no_credential_of_the_api(api, olga):
    client = api()
    client.force_login(olga)

    assert client.get("/api/v1/users/me").status_code == 401


def test_pages_may_not_be_framed(api):
    assert api().get("/admin/login/")["X-Frame-Options"] == "DENY"


@pytest.mark.parametrize("path", ["/", "/admin/login/", "/nothing", "/api/docs", "/static/config/admin.css"])
def test_pages_tell_other_origins_nothing_and_ask_for_nothing(api, path):
    answer = api().get(path)

    assert answer["Referrer-Policy"] == answer["Cross-Origin-Opener-Policy"] == "same-origin"
    assert {"camera=()", "geolocation=()", "microphone=()"} <= set(answer["Permissions-Policy"].split(", "))


@pytest.mark.parametrize("behind_tls", [True, False])
def test_cookies_stay_with_our_own_pages(behind_tls, olga):
    secure = override_settings(SESSION_COOKIE_SECURE=behind_tls, CSRF_COOKIE_SECURE=behind_tls)
    with secure:
        client = Client()
        client.get("/admin/login/")
        client.post("/admin/login/", {"username": olga.email, "password": PASSWORD})

    for name in ("sessionid", "csrftoken"):
        cookie = client.cookies[name]
        assert (cookie["httponly"], cookie["samesite"], bool(cookie["secure"])) == (True, "Lax", behind_tls)


def test_a_proxy_that_ends_tls_makes_everything_secure():
    """In a process of its own: these settings are made at the start."""
    program = (
        "from config import settings as s; print(s.SESSION_COOKIE_SECURE, s.CSRF_COOKIE_SECURE, s.SECURE_HSTS_SECONDS)"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"BEHIND_TLS": "true"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert printed.stdout.split() == ["True", "True", "31536000"]


def test_the_front_door_leads_to_the_admin(api):
    for path in ("/", "/admin"):
        answer = api().get(path)
        assert (answer.status_code, answer["Location"]) == (302, "/admin/")


@pytest.mark.parametrize("path", ["/healthz", "/api/v1/plans", "/api/v1/users/me/quotas"])
def test_paths_work_with_and_without_a_slash_where_they_are_the_apis(api, alice, path):
    assert api(alice).get(path).status_code == 200
    if path.startswith("/api/v1"):
        assert api(alice).get(f"{path}/").status_code == 200


def test_files_of_the_admin_are_served(api):
    answer = api().get("/static/config/admin.css")

    assert answer.status_code == 200
    assert answer["Content-Type"].startswith("text/css")


# The caller's address --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("proxies", "forwarded", "expected"),
    [
        (0, "10.0.0.1", "192.0.2.1"),
        (1, "", "192.0.2.1"),
        (1, "10.0.0.1", "10.0.0.1"),
        (1, "6.6.6.6, 10.0.0.1", "10.0.0.1"),
        (2, "6.6.6.6, 10.0.0.1, 10.0.0.2", "10.0.0.1"),
        (2, "10.0.0.1", "192.0.2.1"),
        (1, "2001:db8::1", "2001:db8::1"),
        (1, "nonsense", "192.0.2.1"),
        (1, "10.0.0.1, ", "192.0.2.1"),
        (1, "fe80::1%eth0", "192.0.2.1"),
        (1, "10.0.0.1:4711", "192.0.2.1"),
    ],
)
def test_as_many_proxies_are_believed_as_there_are(settings, proxies, forwarded, expected):
    settings.TRUSTED_PROXIES = proxies
    request = RequestFactory().get("/", REMOTE_ADDR="192.0.2.1", headers={"X-Forwarded-For": forwarded})

    assert client_ip(request) == expected


def test_without_a_peer_it_is_this_machine():
    request = RequestFactory().get("/", REMOTE_ADDR="")

    assert client_ip(request) == "127.0.0.1"


@pytest.mark.parametrize("forwarded", ["nonsense", "10.0.0.300", "", "10.0.0.7"])
def test_whatever_a_proxy_says_the_request_goes_on(api, alice, settings, forwarded):
    settings.TRUSTED_PROXIES = 1
    headers = {"X-Forwarded-For": forwarded}

    assert api(alice).patch("/api/v1/users/me", {"full_name": "x"}, headers=headers).status_code == 200
    assert api().post("/api/v1/users", {"email": "x"}, headers=headers).status_code == 400
    assert AuditEvent.objects.get().ip == ("10.0.0.7" if forwarded == "10.0.0.7" else "127.0.0.1")
