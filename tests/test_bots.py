"""The bots in examples/, each in a process of its own, between a simulated platform and a real web server."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from django.db.models import F

from accounts.models import ChannelIdentity
from accounts.tests.credentials import api_key
from conversations import channels
from conversations.models import ChannelConfig, Conversation, Message
from inference.stub.answers import TEXT
from quotas.models import Quota
from tests.platforms import Discord, Slack, Telegram

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
# Discord's library has no setting for another address.
DISCORD = """
import os, runpy, sys, discord, yarl
discord.http.Route.BASE = os.environ["DISCORD_API"]
discord.gateway.DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(os.environ["DISCORD_API"] + "/gateway")
sys.path.insert(0, sys.argv[1])
runpy.run_path(sys.argv[1] + "/discord_bot.py", run_name="__main__")
"""
BOTS = {
    "telegram": (Telegram, [str(EXAMPLES / "telegram_bot.py")], "/", "telegram:7"),
    "discord": (Discord, ["-c", DISCORD, str(EXAMPLES)], "!", "discord:7"),
    "slack": (Slack, [str(EXAMPLES / "slack_bot.py")], "/", "slack:T1.U7"),
}


@pytest.fixture(params=BOTS)
def channel(request):
    return request.param


@pytest.fixture
def platform(channel):
    with BOTS[channel][0]() as platform:
        yield platform


@pytest.fixture
def bot(channel, platform, web, olga):
    ChannelConfig.objects.filter(name=channel).update(
        default_model="paced-20", welcome_text="Welcome!", quota_text="Used up."
    )
    channels.drop_channels()
    environment = {
        "MAINSTAY_URL": web.url,
        "MAINSTAY_KEY": api_key(olga, scopes=["act-as", "inference"]),
        "EDIT_SECONDS": "0.01",
        **{f"{channel.upper()}_{name}": value for name, value in (("API", platform.url), ("TOKEN", "1:token"))},
        "SLACK_BOT_TOKEN": "xoxb-1",
        "SLACK_APP_TOKEN": "xapp-1",
    }
    if channel == "slack":
        environment["SLACK_API"] = f"{platform.url}/"
    command = [sys.executable, *BOTS[channel][1]]
    process = subprocess.Popen(command, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    yield process
    process.send_signal(signal.SIGINT)
    try:
        print(process.communicate(timeout=5)[0].decode())
    except subprocess.TimeoutExpired:
        process.kill()
        print(process.communicate()[0].decode())


@pytest.mark.drill
def test_a_bot_answers_links_and_tells_what_is_wrong(bot, channel, platform, api, alice):
    _kind, _command, mark, person = BOTS[channel]

    platform.says("What is a ring?")
    platform.wait_for(f"Welcome!\n\n{TEXT}")
    assert len(platform.shown()) == 1
    assert len(platform.done) > 2, "it grew while it came"
    assert str(ChannelIdentity.objects.get()) == person
    platform.says(f"{mark}new Something else")
    platform.wait_for(TEXT)
    assert Conversation.objects.filter(channel=channel).count() == 2
    assert set(Message.objects.filter(role="user").values_list("content", flat=True)) == {
        "What is a ring?",
        "Something else",
    }

    platform.says(f"{mark}new")
    platform.wait_for(f"Write {mark}new and what you want to say.")
    platform.says(f"{mark}link nonsense")
    platform.wait_for("This code is not valid.")
    code = api(alice).post("/api/v1/users/me/channels").json()["code"]
    platform.says(f"{mark}link {code}")
    platform.wait_for("You are linked.")
    assert str(ChannelIdentity.objects.get(user=alice)) == person

    Quota.objects.filter(user=alice).update(current_usage=F("limit"))
    platform.says("And now?")
    platform.wait_for("Used up.")


def test_each_bot_is_short():
    for path in EXAMPLES.glob("*_bot.py"):
        assert len(path.read_text().splitlines()) < 80, path.name
