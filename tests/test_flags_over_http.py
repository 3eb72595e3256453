"""An edit of a feature flag is seen within a second, whichever process of the web server is asked."""

import time
from contextlib import closing
from http.client import HTTPConnection

import orjson
import pytest

from accounts.tests.credentials import access_token
from accounts.tests.factories import UserFactory
from quotas.models import FeatureFlag
from quotas.tests.factories import FlagFactory
from tests.admin import page, save
from tests.web import WebServer

TRIES = 12

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module")
def server(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock():
        web = WebServer(workers=2)
    with web:
        yield web


def features(server, token):
    """Over a connection of its own, so that the kernel spreads the calls over the processes."""
    with closing(HTTPConnection("127.0.0.1", server.port, timeout=20)) as connection:
        connection.request("GET", "/api/v1/features", headers={"Authorization": f"Bearer {token}"})
        return orjson.loads(connection.getresponse().read())


def seen(server, token):
    return {features(server, token)["features"].get("greeting") for _ in range(TRIES)}


def test_an_edit_in_the_admin_reaches_every_process_within_a_second(server, client, olga):
    flag = FlagFactory(key="greeting", value="hello")
    token = access_token(UserFactory())
    client.force_login(olga)
    address = page(flag)
    # What was read before there was a flag.
    time.sleep(1)
    assert seen(server, token) == {"hello"}

    for changes, expected in (({"value": "good day"}, "good day"), ({"is_active": None}, None)):
        assert save(client, address, **changes).status_code == 302
        time.sleep(1)
        assert seen(server, token) == {expected}

    save(client, address, is_active="on")
    client.post(page(FeatureFlag.objects.get(), "delete"), {"post": "yes"})
    time.sleep(1)
    assert seen(server, token) == {None}


@pytest.mark.drill
def test_both_processes_give_a_user_the_same(server, db):
    FlagFactory(key="split", percentage=50, variants={"a": 1, "b": 2})
    tokens = [access_token(UserFactory()) for _ in range(5)]
    time.sleep(1)

    for token in tokens:
        answers = [features(server, token) for _ in range(TRIES)]
        assert all(answer == answers[0] for answer in answers)
