"""What is revoked is refused by the next request, whichever process of the web server it reaches."""

from contextlib import closing
from http.client import HTTPConnection

import pytest

from accounts import people, services, sessions
from accounts.caller import Caller
from accounts.models import ApiKey, User
from accounts.tests.credentials import access_token, api_key
from accounts.tests.factories import UserFactory
from tests.web import WebServer

# Each over a connection of its own, so that the kernel spreads them over the processes.
SURFACES = ("/api/v1/users/me", "/v1/models")
TRIES = 6

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module")
def server(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock():
        web = WebServer(workers=2)
    with web:
        yield web


def statuses(server, credential, **headers):
    """On both surfaces, many times over."""
    headers |= {"Authorization": f"Bearer {credential}"}
    return {status(server, path, headers) for path in SURFACES * TRIES}


def status(server, path, headers, method="GET"):
    with closing(HTTPConnection("127.0.0.1", server.port, timeout=20)) as connection:
        connection.request(method, path, headers=headers)
        return connection.getresponse().status


def test_a_revoked_key(server, db):
    alice = UserFactory()
    raw = api_key(alice)
    assert statuses(server, raw) == {200}

    services.revoke_api_key(key_id=ApiKey.objects.get().pk, by=alice)

    assert statuses(server, raw) == {401}


def test_a_session_that_was_signed_out_over_http(server, db):
    token = access_token(UserFactory())
    assert statuses(server, token) == {200}

    assert status(server, "/api/v1/auth/logout", {"Authorization": f"Bearer {token}"}, "POST") == 204
    assert statuses(server, token) == {401}


@pytest.mark.parametrize(
    "end",
    [
        lambda user: sessions.sign_out_everywhere(user_id=user.pk, by=user),
        lambda user: services.set_user_active(user=user, is_active=False, by=user),
        lambda user: services.set_password(user_id=user.pk, password="another good password", by=user),
    ],
    ids=["signed out everywhere", "deactivated", "new password"],
)
def test_a_users_tokens(server, db, end):
    alice = UserFactory()
    token = access_token(alice)
    assert statuses(server, token) == {200}

    end(alice)

    assert statuses(server, token) == {401}


def test_a_person_whom_a_bot_acts_for(server, db):
    olga = UserFactory(is_staff=True, is_superuser=True)
    bot = api_key(olga, scopes=["act-as", "inference", "read"])
    person = {"X-On-Behalf-Of": "discord:1"}
    assert statuses(server, bot, **person) == {200}

    user = people.named("discord:1", by=Caller(user_id=olga.pk))
    services.set_user_active(user=User.objects.get(pk=user.pk), is_active=False, by=olga)

    assert statuses(server, bot, **person) == {403}
