"""Merging, exporting and erasing on the page of a user."""

import json

import pytest
from django.contrib.auth.models import Permission

from accounts.erasing import erase_user
from accounts.merging import merge_users
from accounts.models import AuditEvent, User
from accounts.tests.factories import UserFactory
from tests.admin import act, messages, page

ACTIONS = ("export_data", "merge_into", "erase")


@pytest.fixture
def operator(client, olga):
    client.force_login(olga)
    return client


@pytest.fixture
def deleter(client, db):
    """Staff with the permission, but no superuser."""
    user = UserFactory(is_staff=True)
    codes = ["view_user", "change_user", "delete_user"]
    user.user_permissions.add(*Permission.objects.filter(codename__in=codes))
    client.force_login(user)
    return client


def test_the_page_of_a_user_offers_all_three(operator, alice):
    html = operator.get(page(alice)).content.decode()

    for action in ACTIONS:
        assert page(alice, action) in html


def test_a_merge_says_what_moves_and_leads_to_the_user_who_stays(operator, alice, bob, olga):
    alice.channel_identities.create(channel_type="slack", channel_user_id="1")

    html = operator.get(page(alice, "merge_into")).content.decode()
    answer = operator.post(page(alice, "merge_into"), {"target": str(bob.pk)})

    assert "1 channel identities" in html
    assert answer.headers["Location"] == page(bob)
    assert messages(answer, operator) == ["alice@example.com is merged into bob@example.com."]
    alice.refresh_from_db()
    assert alice.merged_into_id == bob.pk
    assert AuditEvent.objects.filter(action="user.merged", actor_id=olga.pk, ip="127.0.0.1").count() == 2


@pytest.mark.parametrize(
    ("target", "sentence"),
    [("", "This field is required."), ("alice", "A user cannot be merged into itself."), ("gone", "not active")],
)
def test_a_merge_that_cannot_be_is_explained_at_the_field(operator, alice, target, sentence):
    gone = UserFactory(is_active=False)
    chosen = {"alice": str(alice.pk), "gone": str(gone.pk)}.get(target, "")

    answer = operator.post(page(alice, "merge_into"), {"target": chosen})

    assert answer.status_code == 200
    assert sentence in answer.content.decode()


def test_the_other_user_is_found_by_typing(operator, alice, bob):
    query = {"app_label": "accounts", "model_name": "user", "field_name": "merged_into", "term": "bob"}

    found = operator.get("/admin/autocomplete/", query).json()["results"]

    assert found == [{"id": str(bob.pk), "text": "bob@example.com"}]


def test_an_export_is_a_download(operator, alice, olga):
    answer = operator.get(page(alice, "export_data"))

    assert answer["Content-Disposition"].startswith("attachment")
    assert json.loads(b"".join(answer.streaming_content))["user"]["email"] == "alice@example.com"
    event = AuditEvent.objects.get(action="user.exported")
    assert (event.actor_id, event.target_id) == (olga.pk, str(alice.pk))


@pytest.mark.parametrize("typed", ["Alice@example.com ", "id"])
def test_who_types_the_address_or_the_id_erases(operator, alice, typed):
    answer = act(operator, alice, "erase", confirmation=str(alice.pk) if typed == "id" else typed)

    assert messages(answer, operator) == ["The user is erased."]
    alice.refresh_from_db()
    assert alice.erased_at is not None


def test_who_types_anything_else_does_not(operator, alice, bob):
    answer = act(operator, alice, "erase", confirmation="bob@example.com")

    assert "neither the e-mail address nor the id" in answer.content.decode()
    alice.refresh_from_db()
    assert alice.erased_at is None


def test_the_last_operator_is_told_why_not(operator, olga):
    answer = act(operator, olga, "erase", confirmation="olga@example.com")

    assert "The last operator cannot be erased" in messages(answer, operator)[0]


def test_an_alias_says_whose_and_can_be_changed_no_more(operator, alice, bob, olga):
    merge_users(source_id=bob.pk, target_id=alice.pk, by=olga)

    answer = operator.get(page(bob))

    html = answer.content.decode()
    assert "was merged into" in html
    assert page(alice) in html
    assert not answer.context["has_change_permission"]
    assert page(bob, "new_key") not in html
    assert_no_action(operator, bob)
    aliases = operator.get(page(User, "changelist"), {"merged_into__id__exact": str(alice.pk)})
    assert list(aliases.context["cl"].result_list) == [bob]
    assert "merged" in operator.get(page(User, "changelist")).content.decode()


def test_an_erased_user_says_so_and_can_be_changed_no_more(operator, alice):
    erase_user(user_id=alice.pk, by=alice)

    answer = operator.get(page(alice))

    assert "This user was erased." in answer.content.decode()
    assert not answer.context["has_change_permission"]
    assert_no_action(operator, alice)
    operator.post(page(User, "changelist"), {"action": "activate", "_selected_action": [str(alice.pk)]})
    alice.refresh_from_db()
    assert not alice.is_active


def test_the_permission_reaches_everybody_but_staff(deleter, alice, bob, olga):
    assert deleter.get(page(alice, "export_data")).status_code == 200
    assert deleter.post(page(alice, "merge_into"), {"target": str(bob.pk)}).status_code == 302
    assert_no_action(deleter, olga)
    answer = deleter.post(page(bob, "merge_into"), {"target": str(olga.pk)})
    assert "Only a superuser may merge staff." in answer.content.decode()
    act(deleter, bob, "erase", confirmation="bob@example.com")
    assert User.objects.filter(erased_at=None).count() == 2


def test_without_the_permission_there_is_none_of_it(client, alice):
    user = UserFactory(is_staff=True)
    user.user_permissions.add(*Permission.objects.filter(codename__in=["view_user", "change_user"]))
    client.force_login(user)

    html = client.get(page(alice)).content.decode()

    assert_no_action(client, alice)
    for action in ACTIONS:
        assert page(alice, action) not in html


def assert_no_action(client, user):
    for action in ACTIONS:
        assert client.get(page(user, action)).status_code == 403
        assert client.post(page(user, action), {"_form_submitted": "on"}).status_code == 403
