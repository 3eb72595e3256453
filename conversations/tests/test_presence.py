"""Who is there: GET /api/v1/channels/{name}/active, and the page in the admin."""

import time

import pytest
from django.contrib.auth.models import Group
from django.urls import reverse

from accounts.snapshots import redis_client
from accounts.tests.credentials import api_key
from accounts.tests.factories import UserFactory
from conversations import presence, sessions

pytestmark = pytest.mark.django_db

PATH = "/api/v1/channels/telegram/active"
PAGE = "admin:conversations_channelconfig_presence"


def seen(user, *, seconds_ago=0.0):
    sessions.touch(channel="telegram", user_id=user.pk)
    redis_client().zadd(presence.of_channel("telegram"), {str(user.pk): time.time() - seconds_ago})


def test_everybody_sees_how_many_and_operators_see_who(api, alice, bob, olga):
    nobody = api(alice).get(PATH).json()
    seen(alice, seconds_ago=20)
    seen(bob, seconds_ago=10)
    seen(olga, seconds_ago=presence.SECONDS + 1)

    shown = api(alice).get(PATH).json()
    of_operator = api(olga).get(PATH).json()
    of_bot = api(api_key(olga, scopes=["act-as", "conversations"])).get(PATH, headers={"X-On-Behalf-Of": f"{bob.pk}"})

    assert nobody == {"channel": "telegram", "count": 0, "last_seen": None, "is_active": False}
    assert shown == {"channel": "telegram", "count": 2, "last_seen": shown["last_seen"], "is_active": True}
    assert shown["last_seen"].endswith("Z")
    assert (of_operator["count"], of_operator["is_active"]) == (2, False)
    assert [person["user"] for person in of_operator["people"]] == [str(bob.pk), str(alice.pk)]
    assert of_bot.json() == shown
    assert api(alice).get("/api/v1/channels/line/active").json()["error"]["code"] == "channel_not_found"


def test_who_has_gone_is_taken_out_and_a_silent_channel_is_forgotten(alice, bob):
    seen(alice, seconds_ago=presence.SECONDS + 1)
    seen(bob)

    sessions.touch(channel="telegram", user_id=bob.pk)

    assert redis_client().zrange(presence.of_channel("telegram"), 0, -1) == [str(bob.pk).encode()]
    assert 0 < redis_client().ttl(presence.of_channel("telegram")) <= presence.SECONDS


def test_without_redis_nobody_can_say(api, alice, redis_away):
    assert api(alice).get(PATH).status_code == 503


def test_the_page_shows_channels_and_people_to_operators_alone(client, alice, olga):
    seen(alice)
    client.force_login(olga)
    answer = client.get(reverse(PAGE))
    text = answer.content.decode()

    assert ["telegram", 1] in [row[:2] for row in answer.context["counts"]["rows"]]
    assert ["discord", 0] in [row[:2] for row in answer.context["counts"]["rows"]]
    assert alice.email in text
    assert f'href="{reverse(PAGE)}"' in text
    for role in ("support", "analyst"):
        member = UserFactory(is_staff=True)
        member.groups.add(Group.objects.get(name=role))
        client.force_login(member)
        assert client.get(reverse(PAGE)).status_code == 403
