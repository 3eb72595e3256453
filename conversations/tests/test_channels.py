"""Channels: their page in the admin, and how a change reaches every process at once."""

import pytest

from accounts.exceptions import Conflict
from accounts.models import AuditEvent
from conversations import channels
from conversations.exceptions import ChannelOff
from conversations.models import ChannelConfig
from prompts.tests.factories import a_template
from quotas.exceptions import RateLimitExceeded
from tests.admin import act, messages, page, save

SECRET = "123456:bot-token"


@pytest.fixture
def operator(client, olga):
    client.force_login(olga)
    return client


@pytest.fixture
def discord(db):
    return ChannelConfig.objects.get(name="discord")


@pytest.fixture
def committing(django_capture_on_commit_callbacks):
    return lambda: django_capture_on_commit_callbacks(execute=True)


def test_five_channels_are_there_and_any_other_works(db):
    assert set(ChannelConfig.objects.values_list("name", flat=True)) == {"api", "discord", "slack", "telegram", "web"}
    assert channels.is_known("slack")
    assert not channels.is_known("line")
    other = channels.channel("line")
    assert (other.name, other.is_active, other.context_messages) == ("line", True, 20)


def test_a_warm_channel_costs_no_sql_and_a_change_counts_at_once(
    operator, discord, committing, django_assert_num_queries
):
    assert channels.channel("discord").default_model == ""
    with django_assert_num_queries(0):
        channels.channel("discord")
        channels.channel("nobody-knows-it")
    # What another process has kept.
    copies = dict(channels._copies)

    with committing():
        save(
            operator,
            page(discord),
            default_model="smollm2",
            temperature="0.5",
            rate_limits='{"requests": {"minute": 1}}',
        )

    channels._copies.update(copies)
    found = channels.channel("discord")
    assert (found.default_model, found.temperature) == ("smollm2", 0.5)
    found.admit()
    with pytest.raises(RateLimitExceeded, match="This channel"):
        found.admit()


def test_without_redis_a_copy_lasts_for_a_moment(discord, redis_away, django_assert_num_queries, monkeypatch):
    channels.channel("discord")
    with django_assert_num_queries(0):
        channels.channel("discord")
    monkeypatch.setattr(channels.time, "monotonic", lambda: 1e12)
    with django_assert_num_queries(1):
        channels.channel("discord")


def test_credentials_go_in_and_never_come_out(operator, discord):
    save(operator, page(discord), new_credentials=SECRET)

    discord.refresh_from_db()
    assert discord.credentials == SECRET
    event = AuditEvent.objects.get(action="channelconfig.updated")
    assert event.metadata == {"fields": ["new_credentials"]}
    for address in (page(discord), page(ChannelConfig, "changelist")):
        assert SECRET not in operator.get(address).content.decode()
    assert SECRET not in repr(channels.channel("discord"))
    save(operator, page(discord), welcome_text="Hello!")
    discord.refresh_from_db()
    assert (discord.credentials, discord.welcome_text) == (SECRET, "Hello!")
    refused = save(operator, page(discord), new_credentials="other", remove_credentials="on")
    assert "Either give new credentials" in refused.content.decode()
    save(operator, page(discord), remove_credentials="on")
    discord.refresh_from_db()
    assert discord.credentials == ""


def test_a_channel_is_switched_off_and_on_again(operator, olga, discord, committing):
    with committing():
        assert messages(act(operator, discord, "switch", state="off"), operator)[-1] == "discord is off."
    with pytest.raises(ChannelOff, match="discord is switched off"):
        channels.channel("discord").check()
    with pytest.raises(Conflict):
        channels.switch(config=discord, is_active=False, by=olga)

    with committing():
        act(operator, discord, "switch", state="on")
    channels.channel("discord").check()
    events = AuditEvent.objects.filter(target_id=str(discord.pk)).order_by("id").values_list("action", flat=True)
    assert list(events) == ["channelconfig.switched_off", "channelconfig.switched_on"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "Not plain"),
        ("temperature", "2.1"),
        ("top_p", "-1"),
        ("max_tokens", "0"),
        ("context_messages", "201"),
        ("rate_limits", '{"requests": {"fortnight": 1}}'),
        ("rate_limits", '{"minute": 1}'),
        ("prompt_label", "7"),
    ],
)
def test_senseless_settings_are_refused(operator, discord, field, value):
    before = ChannelConfig.objects.filter(pk=discord.pk).values().get()

    answer = save(operator, page(discord), **{field: value})

    assert field in answer.context["adminform"].form.errors
    assert ChannelConfig.objects.filter(pk=discord.pk).values().get() == before


def test_a_template_must_need_no_values(operator, olga, discord):
    good, asks = a_template(olga, "Be kind.", name="kind"), a_template(olga, "Be {{ how }}.", name="asks")

    answer = save(operator, page(discord), prompt_template=str(asks.pk))
    assert "how must have a value." in answer.context["adminform"].form.errors["prompt_template"]
    save(operator, page(discord), prompt_template=str(good.pk))
    found = channels.channel("discord")
    assert (found.template_owner_id, found.template_name, found.prompt_label) == (olga.pk, "kind", "production")
