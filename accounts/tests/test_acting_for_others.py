"""X-On-Behalf-Of: one key that speaks for many people."""

import threading
from uuid import uuid4

import pytest
from django.db import connection
from django.test import RequestFactory

from accounts import services
from accounts.authentication import authenticate
from accounts.models import AuditEvent, ChannelIdentity, User
from accounts.snapshots import redis_client
from accounts.tests.credentials import access_token, api_key

ME = "/api/v1/users/me"

pytestmark = pytest.mark.django_db

BAD = ("discord:1,discord:2", "user:1", "")


@pytest.fixture
def bot(olga):
    return api_key(olga, scopes=["act-as", "inference", "conversations", "read"])


@pytest.fixture
def committing(django_capture_on_commit_callbacks):
    return lambda: django_capture_on_commit_callbacks(execute=True)


def for_person(name):
    return {"X-On-Behalf-Of": name}


def request_for(credential, name):
    return RequestFactory().get(ME, headers={"Authorization": f"Bearer {credential}", **for_person(name)})


def test_a_person_is_created_on_first_sight_and_known_from_then_on(api, bot, olga):
    first = api(bot).get(ME, headers=for_person("discord:1234"))
    redis_client().flushdb()
    again = api(bot).get(ME, headers=for_person("discord:1234"))

    assert first.status_code == 200
    assert first.json()["id"] == again.json()["id"]
    assert first.json()["email"] is None
    identity = ChannelIdentity.objects.get()
    assert (str(identity), str(identity.user_id)) == ("discord:1234", first.json()["id"])
    event = AuditEvent.objects.get(action="user.first_seen")
    assert (event.actor_id, event.metadata) == (olga.pk, {"channel": "discord"})


def test_the_person_has_nothing_of_the_keys_owner(bot, olga):
    caller = authenticate(request_for(bot, "discord:1"))

    assert caller.user_id != olga.pk
    assert (caller.acted_by, caller.channel, caller.is_staff) == (olga.pk, "discord", False)
    assert not caller.has_perm("analytics.view_dailystat")
    assert not caller.has_scope("admin")


def test_people_of_different_channels_are_different_people(bot):
    people = {authenticate(request_for(bot, name)).user_id for name in ("discord:1", "telegram:1", "own-app:1")}

    assert len(people) == 3


def test_a_user_is_named_by_id_too_in_any_way_of_writing_it(bot, alice):
    for name in (str(alice.pk), str(alice.pk).upper(), alice.pk.hex):
        assert authenticate(request_for(bot, name)).user_id == alice.pk
    assert len(redis_client().keys("auth:person:*")) == 1


def test_a_warm_call_for_somebody_asks_the_database_nothing(bot, django_assert_num_queries):
    authenticate(request_for(bot, "discord:1"))
    with django_assert_num_queries(0):
        authenticate(request_for(bot, "discord:1"))


def test_a_merged_account_leads_to_the_one_it_became(bot, alice, bob):
    User.objects.filter(pk=bob.pk).update(is_active=False, merged_into=alice)

    assert authenticate(request_for(bot, str(bob.pk))).user_id == alice.pk


def test_deactivating_a_person_or_revoking_the_key_counts_from_the_next_call_on(api, bot, olga, committing):
    person = authenticate(request_for(bot, "discord:1")).user_id
    with committing():
        services.set_user_active(user=User.objects.get(pk=person), is_active=False, by=olga)

    answer = api(bot).get(ME, headers=for_person("discord:1"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "user_inactive")
    with committing():
        services.set_user_active(user=User.objects.get(pk=person), is_active=True, by=olga)
    assert api(bot).get(ME, headers=for_person("discord:1")).status_code == 200


@pytest.mark.parametrize("name", ["discord:1", "00000000-0000-7000-8000-000000000000"])
def test_a_key_without_the_scope_acts_for_nobody_and_creates_nobody(api, alice, name):
    answer = api(api_key(alice)).get(ME, headers=for_person(name))

    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "scope_required")
    assert User.objects.count() == 1


def test_a_person_with_a_token_acts_for_nobody(api, olga):
    answer = api(access_token(olga)).get(ME, headers=for_person("discord:1"))

    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "scope_required")


def test_nobody_acts_as_staff(api, bot, olga):
    answer = api(bot).get(ME, headers=for_person(str(olga.pk)))

    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "user_is_staff")


@pytest.mark.parametrize(
    "name",
    [
        "discord",
        ":1",
        "discord:",
        "Discord:1",
        "dis cord:1",
        "discord:a b",
        "discord:1,discord:2",
        "user:1",
        "",
        f"discord:{'x' * 256}",
        "x" * 51 + ":1",
    ],
)
def test_a_name_that_is_none_is_refused(api, bot, name):
    answer = api(bot).get(ME, headers=for_person(name))

    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
    assert not ChannelIdentity.objects.exists()


def test_an_id_that_nobody_has_is_not_found(api, bot):
    answer = api(bot).get(ME, headers=for_person(str(uuid4())))

    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "user_not_found")


@pytest.mark.django_db(transaction=True)
def test_a_person_who_is_seen_by_many_at_once_is_one_person(bot):
    seen, barrier = [], threading.Barrier(8)

    def look():
        barrier.wait()
        seen.append(authenticate(request_for(bot, "discord:1")).user_id)
        connection.close()

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(seen) == 8
    assert len(set(seen)) == 1
    assert User.objects.filter(email=None).count() == 1
