"""`manage.py user_info`: what helps to help a user, and no secret."""

import io
import json
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group
from django.core.management import CommandError, call_command
from django.utils import timezone

from accounts import services
from accounts.models import ApiKey, ChannelIdentity, Session, TotpDevice, User
from accounts.tests.credentials import api_key
from inference.models import Request
from quotas.models import Plan
from quotas.services import change_plan
from quotas.tests.factories import QuotaFactory


def user_info(*arguments):
    out = io.StringIO()
    call_command("user_info", *arguments, stdout=out)
    return out.getvalue()


@pytest.fixture
def full(alice):
    """Alice with some of everything; the secrets that nothing may show."""
    now = timezone.now()
    services.update_user(user_id=alice.pk, by=alice, full_name="Alice Liddell", username="alice")
    change_plan(user_id=alice.pk, plan=Plan.objects.get(slug="pro"), by=alice)
    alice.groups.add(Group.objects.get(name="support"))
    usable, revoked = api_key(alice, name="laptop"), api_key(alice, name="lost")
    ApiKey.objects.filter(name="lost").update(is_active=False)
    ChannelIdentity.objects.create(user=alice, channel_type="discord", channel_user_id="1234", username="al")
    TotpDevice.objects.create(user=alice, secret="3132333435363738")
    common = {"user": alice, "expires_at": now + timedelta(days=1)}
    Session.objects.create(**common, device="Phone", ip="10.0.0.7", refresh_jti="the-token")
    Session.objects.create(**common, device="Old one", refresh_jti="x", revoked_at=now, revoked_reason="signed_out")
    for number in range(12):
        Request.objects.create(
            user=alice, request_type="llm", model=f"model-{number}", request_data={"content": "what was asked"}
        )
    alice.refresh_from_db()
    return [
        usable.rpartition("_")[2],
        revoked.rpartition("_")[2],
        alice.password,
        "the-token",
        "what was asked",
        "31323334",
    ]


@pytest.mark.parametrize("name", ["Alice@example.com", "id", "discord:1234"])
def test_a_user_is_found_by_address_id_and_channel(full, alice, name):
    said = user_info(str(alice.pk) if name == "id" else name)

    assert said.startswith(f"alice@example.com  {alice.pk}\n")


def test_it_says_what_there_is(full):
    said = user_info("alice@example.com")

    for text in (
        *(
            "name        Alice Liddell",
            "state       active, not verified",
            "rights      support",
            "plan        Pro, active",
        ),
        *("laptop: inference, ", "revoked  lost: ", "never used", "Phone, 10.0.0.7", "discord:1234  al"),
        *("llm.requests", "month", "model-11", "model-2  running"),
    ):
        assert text in said
    assert "Old one" not in said
    assert "model-1 " not in said


def test_no_secret_is_in_it(full):
    for said in (user_info("alice@example.com"), user_info("alice@example.com", "--json")):
        assert [secret for secret in full if secret in said] == []


def test_as_json(full, alice):
    info = json.loads(user_info("alice@example.com", "--json"))

    assert info["account"]["id"] == str(alice.pk)
    assert info["account"]["roles"] == ["support"]
    assert info["plan"]["slug"] == "pro"
    assert {quota["meter"] for quota in info["quotas"]} >= {"llm.requests", "llm.tokens"}
    assert (len(info["keys"]), len(info["sessions"]), len(info["requests"])) == (2, 1, 10)
    assert info["requests"][0]["model"] == "model-11"


@pytest.mark.parametrize(
    ("fields", "bar"),
    [
        ({"limit": 100}, "[........................] 0 of 100"),
        ({"limit": 100, "current_usage": 50}, "[############............] 50 of 100"),
        ({"limit": 100, "current_usage": 50, "held": 25}, "[############++++++......] 50 of 100, 25 held"),
        ({"limit": 1000, "current_usage": 1000}, "[########################] 1,000 of 1,000"),
        ({"limit": 0}, "[........................] 0 of 0"),
        ({"limit": 100, "current_usage": 200, "overage_allowed": True}, "[########################] 200 of 100"),
        ({"limit": 150, "base_limit": 100, "granted": 50}, "0 of 150, 50 of it granted"),
        ({"limit": 5, "reset_date": timezone.now() - timedelta(days=1)}, "0 of 5; period is over"),
        ({"limit": 5, "period": "none", "reset_date": None}, "0 of 5; never resets"),
    ],
)
def test_a_quota_is_a_bar(alice, fields, bar):
    QuotaFactory(user=alice, **fields)

    assert bar in user_info("alice@example.com")


def test_a_user_with_nothing(alice):
    said = user_info("alice@example.com")

    assert said.count("  none\n") == 5
    assert "plan        none yet" in said
    assert "signed in   never" in said


def test_looking_changes_nothing(alice):
    user_info("alice@example.com")

    assert not alice.quotas.exists()
    assert not alice.subscriptions.exists()


def test_who_was_merged_erased_or_shut_out_says_so(alice, bob):
    User.objects.filter(pk=bob.pk).update(is_active=False, merged_into=alice)
    assert f"merged into {alice.pk}" in user_info("bob@example.com")

    User.objects.filter(pk=bob.pk).update(merged_into=None)
    assert "shut out, not verified" in user_info("bob@example.com")

    User.objects.filter(pk=bob.pk).update(email=None, erased_at=timezone.now())
    said = user_info(str(bob.pk))
    assert said.startswith(f"A user without an address  {bob.pk}\n")
    assert "state       erased 20" in said


@pytest.mark.parametrize(
    "name", ["nobody@example.com", "discord:1", "discord", "", "01a1fef8-55bf-73a0-8d69-bf06e9573c10", ":"]
)
def test_who_is_not_there_is_one_sentence(alice, name):
    with pytest.raises(CommandError, match="There is no user"):
        user_info(name)


def test_an_expired_key_says_so(alice):
    api_key(alice, name="old")
    ApiKey.objects.update(expires_at=timezone.now() - timedelta(days=1), last_used_at=timezone.now())

    said = user_info("alice@example.com")

    assert "expired  old: " in said
    assert "last used 20" in said
