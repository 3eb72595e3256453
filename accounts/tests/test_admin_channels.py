"""Channel identities in the admin: who somebody is where, and how that is taken away."""

import pytest
from django.contrib.auth.models import Permission

from accounts.models import AuditEvent, ChannelIdentity
from accounts.tests.factories import UserFactory
from tests.admin import act, messages, page

LIST = page(ChannelIdentity, "changelist")


@pytest.fixture
def operator(client, olga):
    client.force_login(olga)
    return client


def identity(user, channel_type="slack", channel_user_id="U1", **fields):
    return ChannelIdentity.objects.create(
        user=user, channel_type=channel_type, channel_user_id=channel_user_id, **fields
    )


def listed(client, **query):
    return list(client.get(LIST, query).context["cl"].result_list)


def staff_who_may(client, *codes):
    user = UserFactory(is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codes))
    client.force_login(user)


def test_the_list_says_who_is_whom(operator, alice):
    identity(alice, username="ali")

    html = operator.get(LIST).content.decode()

    for text in ("slack:U1", "ali", "alice@example.com", "X-On-Behalf-Of"):
        assert text in html


@pytest.mark.parametrize("term", ["U1", "ALICE@", "id"])
def test_an_identity_is_found(operator, alice, bob, term):
    found = identity(alice)
    identity(bob, channel_user_id="U11")

    assert listed(operator, q=str(found.pk) if term == "id" else term) == [found]


def test_the_filters_are_channel_and_user(operator, alice, bob):
    slack, discord = identity(alice), identity(alice, "discord")
    identity(bob, "telegram")

    assert listed(operator, channel_type="slack") == [slack]
    assert listed(operator, user__id__exact=str(alice.pk)) == [discord, slack]


def test_nobody_adds_changes_or_deletes_one_by_hand(operator, alice):
    row = identity(alice)

    assert operator.get(page(ChannelIdentity, "add")).status_code == 403
    assert operator.post(page(row), {"channel_user_id": "U2"}).status_code == 403
    assert operator.post(page(row, "delete"), {"post": "yes"}).status_code == 403
    assert ChannelIdentity.objects.get().channel_user_id == "U1"


def test_what_is_unlinked_is_gone_and_the_list_says_so(operator, olga, alice):
    row = identity(alice)

    answer = act(operator, row, "unlink")

    assert answer.headers["HX-Redirect"] == LIST
    assert messages(answer, operator) == ["slack:U1 is unlinked."]
    assert not ChannelIdentity.objects.exists()
    event = AuditEvent.objects.get(action="channel.unlinked")
    assert (event.actor_id, event.target_id, event.metadata) == (olga.pk, str(alice.pk), {"channel": "slack"})


def test_opening_the_dialog_unlinks_nothing(operator, alice):
    row = identity(alice)

    assert operator.get(page(row, "unlink")).status_code == 200

    assert ChannelIdentity.objects.exists()


def test_the_only_way_to_reach_somebody_stays(operator):
    row = identity(UserFactory(email=None))

    answer = act(operator, row, "unlink")

    assert answer.headers["HX-Redirect"] == page(row)
    assert "the only way to reach the account" in messages(answer, operator)[0]
    assert ChannelIdentity.objects.exists()
    assert not AuditEvent.objects.exists()


def test_of_two_one_may_go(operator):
    somebody = UserFactory(email=None)
    row, other = identity(somebody), identity(somebody, "discord")

    act(operator, row, "unlink")

    assert ChannelIdentity.objects.get() == other


def test_what_is_gone_already_is_not_found(operator, alice):
    row = identity(alice)
    address = page(row, "unlink")
    row.delete()

    assert operator.post(address, {"_form_submitted": "on"}).status_code == 404


def test_without_the_right_nothing_is_unlinked(client, alice):
    row = identity(alice)
    staff_who_may(client, "view_channelidentity", "change_channelidentity", "support_user")

    assert page(row, "unlink") not in client.get(page(row)).content.decode()
    assert client.get(page(row, "unlink")).status_code == 403
    assert client.post(page(row, "unlink"), {"_form_submitted": "on"}).status_code == 403
    assert ChannelIdentity.objects.exists()


def test_who_may_not_look_sees_nothing(client, alice):
    row = identity(alice)
    staff_who_may(client, "view_user")

    assert client.get(LIST).status_code == client.get(page(row)).status_code == 403
