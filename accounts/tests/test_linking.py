"""users/me/channels: one person on two channels, by a code that is made on one and typed in on the other."""

import threading
from datetime import timedelta

import pytest
import time_machine
from django.db import connection
from django.utils import timezone

from accounts.models import AuditEvent, ChannelIdentity, OneTimeCode, User
from accounts.tests.credentials import access_token, api_key
from accounts.tests.factories import UserFactory

PATH = "/api/v1/users/me/channels"
ME = "/api/v1/users/me"

pytestmark = pytest.mark.django_db


@pytest.fixture
def committing(django_capture_on_commit_callbacks):
    return lambda: django_capture_on_commit_callbacks(execute=True)


@pytest.fixture
def bot(api, olga):
    """Calls for people: `bot("discord:1").get(…)`."""
    key = api_key(olga, scopes=["act-as", "inference", "read"])
    return lambda name: api(key, HTTP_X_ON_BEHALF_OF=name)


def id_of(client):
    return client.get(ME).json()["id"]


def error_code(answer):
    return answer.json()["error"]["code"]


def test_who_types_the_code_on_a_channel_becomes_the_person_of_the_web(api, alice, bot, committing):
    discord = bot("discord:1")
    assert id_of(discord) != str(alice.pk)
    made = api(alice).post(PATH)
    with committing():
        answer = discord.post(PATH, {"code": made.json()["code"]})

    assert made.status_code == 201
    assert answer.status_code == 200
    assert [(one["channel_type"], one["channel_user_id"]) for one in answer.json()] == [("discord", "1")]
    assert id_of(discord) == str(alice.pk)
    assert api(alice).get(PATH).json()["results"] == answer.json()
    assert AuditEvent.objects.get(action="channel.linked").target_id == str(alice.pk)


def test_it_works_the_other_way_round_and_between_two_channels(api, alice, bot, committing):
    discord, telegram = bot("discord:1"), bot("telegram:2")
    with committing():
        telegram.post(PATH, {"code": discord.post(PATH).json()["code"]})
    assert id_of(discord) == id_of(telegram)
    with committing():
        api(alice).post(PATH, {"code": telegram.post(PATH).json()["code"]})

    assert id_of(discord) == id_of(telegram) == str(alice.pk)
    assert ChannelIdentity.objects.filter(user=alice).count() == 2


def test_what_the_person_had_comes_along(api, alice, bot, committing):
    discord = bot("discord:1")
    discord.post("/api/v1/quotas/usage", {"amounts": {"llm.requests": 3}})
    with committing():
        discord.post(PATH, {"code": api(alice).post(PATH).json()["code"]})

    used = {f"{quota['resource_type']}.{quota['unit']}": quota["current_usage"] for quota in _quotas(api(alice))}
    assert used["llm.requests"] == 3


def _quotas(client):
    return client.get("/api/v1/users/me/quotas").json()


@pytest.mark.parametrize("write", [str.lower, lambda code: code.replace("-", " "), lambda code: f" {code} "])
def test_a_code_is_typed_in_as_people_type(api, alice, bot, committing, write):
    code = api(alice).post(PATH).json()["code"]
    with committing():
        assert bot("discord:1").post(PATH, {"code": write(code)}).status_code == 200


def test_a_code_is_good_once_for_ten_minutes_and_only_the_last_one(api, alice, bot, committing):
    first, second = (api(alice).post(PATH).json()["code"] for _ in range(2))
    discord = bot("discord:1")
    refused = discord.post(PATH, {"code": first})
    assert (refused.status_code, error_code(refused)) == (400, "invalid_code")
    with time_machine.travel(timezone.now() + timedelta(minutes=10, seconds=1), tick=False):
        assert error_code(bot("discord:2").post(PATH, {"code": second})) == "code_expired"
    with committing():
        assert discord.post(PATH, {"code": second}).status_code == 200

    assert error_code(bot("discord:3").post(PATH, {"code": second})) == "code_used"


@pytest.mark.parametrize("code", ["", "x", "AAAA-AAAA", "' OR 1=1", "é" * 8, "A" * 41])
def test_a_made_up_code_links_nobody(bot, code):
    answer = bot("discord:1").post(PATH, {"code": code})

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "code"


def test_guessing_is_stopped(bot, settings):
    settings.RATELIMIT_TOKEN = "3/m"
    statuses = [bot("discord:1").post(PATH, {"code": "AAAA-AAAA"}).status_code for _ in range(4)]

    assert statuses == [400, 400, 400, 429]
    assert bot("discord:2").post(PATH, {"code": "AAAA-AAAA"}).status_code == 400


def test_two_who_can_both_sign_in_are_not_merged_by_a_code(api, alice, bob):
    code = api(alice).post(PATH).json()["code"]
    answer = api(bob).post(PATH, {"code": code})

    assert (answer.status_code, error_code(answer)) == (409, "two_sign_ins")
    assert OneTimeCode.objects.get(purpose="link_channel").used_at is None
    assert not User.objects.exclude(merged_into=None).exists()


def test_nobody_links_to_themselves(api, alice):
    answer = api(alice).post(PATH, {"code": api(alice).post(PATH).json()["code"]})

    assert (answer.status_code, error_code(answer)) == (409, "same_user")


def test_the_code_itself_is_nowhere_in_the_database(api, alice):
    code = api(alice).post(PATH).json()["code"]

    with connection.cursor() as cursor:
        cursor.execute("SELECT row_to_json(c)::text FROM accounts_onetimecode c")
        assert code.replace("-", "") not in str(cursor.fetchall())


# Unlinking -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_name", [True, False])
def test_who_is_unlinked_is_somebody_new_next_time(api, alice, bot, committing, by_name):
    identity = ChannelIdentity.objects.create(user=alice, channel_type="discord", channel_user_id="1")
    assert id_of(bot("discord:1")) == str(alice.pk)
    address = f"{PATH}?channel=discord:1" if by_name else f"{PATH}/{identity.pk}"
    with committing():
        assert api(alice).delete(address).status_code == 204

    assert id_of(bot("discord:1")) != str(alice.pk)
    assert AuditEvent.objects.get(action="channel.unlinked").metadata == {"channel": "discord"}


def test_the_last_way_to_reach_an_account_stays(bot):
    discord = bot("discord:1")
    answer = discord.delete(f"{PATH}?channel=discord:1")

    assert (answer.status_code, error_code(answer)) == (409, "last_channel")
    assert ChannelIdentity.objects.exists()


@pytest.mark.parametrize(("query", "status"), [("", 400), ("?channel=discord", 400), ("?channel=discord:2", 404)])
def test_an_identity_that_is_not_mine_is_not_there(api, alice, bob, query, status):
    theirs = ChannelIdentity.objects.create(user=bob, channel_type="discord", channel_user_id="2")

    assert api(alice).delete(f"{PATH}{query}").status_code == status
    assert api(alice).delete(f"{PATH}/{theirs.pk}").status_code == 404
    assert ChannelIdentity.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_of_many_who_type_one_code_at_once_one_is_linked(api):
    alice = UserFactory(email="alice@example.com")
    olga = UserFactory(email="olga@example.com", is_staff=True, is_superuser=True)
    key = api_key(olga, scopes=["act-as", "read"])
    code = api(access_token(alice)).post(PATH).json()["code"]
    statuses, barrier = [], threading.Barrier(6)

    def redeem(number):
        client = api(key, HTTP_X_ON_BEHALF_OF=f"discord:{number}")
        client.get(ME)
        barrier.wait()
        statuses.append(client.post(PATH, {"code": code}).status_code)
        connection.close()

    threads = [threading.Thread(target=redeem, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(statuses) == [200, 400, 400, 400, 400, 400]
    assert ChannelIdentity.objects.filter(user=alice).count() == 1


@pytest.mark.django_db(transaction=True)
def test_two_who_redeem_each_others_codes_at_once_become_one_without_a_deadlock(api):
    olga = UserFactory(email="olga@example.com", is_staff=True, is_superuser=True)
    key = api_key(olga, scopes=["act-as", "read"])
    for round_ in range(3):
        bots = [api(key, HTTP_X_ON_BEHALF_OF=f"discord:{round_}-{one}") for one in "ab"]
        codes = [bot.post(PATH).json()["code"] for bot in bots]
        statuses, barrier = [], threading.Barrier(2)

        def redeem(bot, code, barrier=barrier, statuses=statuses):
            barrier.wait()
            statuses.append(bot.post(PATH, {"code": code}).status_code)
            connection.close()

        threads = [threading.Thread(target=redeem, args=pair) for pair in zip(bots, reversed(codes), strict=True)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        # The second one finds that its code went with the account that made it, or that both are one already.
        assert statuses.count(200) == 1
        assert {status for status in statuses if status != 200} <= {400, 401, 403, 409}
        assert id_of(bots[0]) == id_of(bots[1])
