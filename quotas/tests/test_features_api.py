"""GET /api/v1/features"""

import pytest

from accounts.tests.credentials import api_key
from quotas.models import FeatureFlag, FlagExposure
from quotas.tasks import flush_exposures
from quotas.tests.factories import FlagFactory
from tests.shape import error_of

PATH = "/api/v1/features"


def test_the_wishes_of_a_bot(api, alice):
    FlagFactory(key="enable_mcp_security", value=True)
    FlagFactory(key="max_conversation_length", value=100)
    FlagFactory(key="enable_slash_commands", value=False, rules=[{"channel": "discord", "value": True}])
    FlagFactory(key="model_selection", value="smollm2", percentage=100, variants={"variant_a": 1})
    FlagFactory(key="switched_off", is_active=False)
    expected = {
        "enable_mcp_security": True,
        "max_conversation_length": 100,
        "enable_slash_commands": False,
        "model_selection": "variant_a",
    }

    found = api(alice).get(PATH).json()
    on_discord = api(alice).get(PATH, {"channel": "discord"}).json()

    assert found == {"features": expected, "variants": {"model_selection": "variant_a"}}
    assert on_discord["features"] == expected | {"enable_slash_commands": True}


def test_one_sees_ones_own_and_no_rule(api, alice, bob):
    FlagFactory(key="greeting", value="hello", rules=[{"user": alice, "value": "hello Alice"}])

    assert api(alice).get(PATH).json()["features"] == {"greeting": "hello Alice"}
    assert api(bob).get(PATH).json() == {"features": {"greeting": "hello"}, "variants": {}}


def test_who_acts_for_somebody_gets_what_that_person_gets(api, olga):
    FlagFactory(key="commands", rules=[{"channel": "discord", "value": True}])
    bot = api(api_key(olga, scopes=["act-as", "read"]))

    assert bot.get(PATH).json()["features"] == {"commands": False}
    assert bot.get(PATH, headers={"X-On-Behalf-Of": "discord:1"}).json()["features"] == {"commands": True}


def test_what_is_shown_is_counted(api, alice):
    FlagFactory(key="model", percentage=100, variants={"a": 1})

    for _ in range(2):
        api(alice).get(PATH)
    flush_exposures()

    assert FlagExposure.objects.values_list("variant", "users").get() == ("a", 1)


@pytest.mark.parametrize("channel", ["Discord", "a b", "x" * 51, "\0", "é", "a\nb"])
def test_a_senseless_channel_is_refused(api, alice, channel):
    answer = api(alice).get(PATH, {"channel": channel})

    assert answer.status_code == 400
    assert error_of(answer)["param"] == "channel"


def test_without_flags_there_is_nothing(api, alice):
    assert not FeatureFlag.objects.exists()
    assert api(alice).get(PATH).json() == {"features": {}, "variants": {}}
