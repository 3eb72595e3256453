"""Users and groups in the admin: what operators change, and what nobody may."""

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission

from accounts import services
from accounts.credentials import caller_for_key
from accounts.exceptions import Conflict, NotAuthenticated
from accounts.models import ApiKey, AuditEvent, User
from accounts.tests.credentials import access_token, api_key, caller_for_token
from accounts.tests.factories import PASSWORD, UserFactory
from tests.admin import act, messages, page, save

NEW_PASSWORD = "another horse, another battery"


@pytest.fixture
def operator(client, olga):
    client.force_login(olga)
    return client


@pytest.fixture
def committing(django_capture_on_commit_callbacks):
    """What waits for the commit runs when the block ends: tests do not commit."""
    return lambda: django_capture_on_commit_callbacks(execute=True)


def events(*actions):
    return list(AuditEvent.objects.filter(action__in=actions).order_by("id"))


def test_a_new_user_can_sign_in_and_the_event_names_the_operator(operator, olga):
    save(
        operator, page(User, "add"), email="New@Example.com ", full_name="New", password=NEW_PASSWORD, is_verified="on"
    )

    user = User.objects.get(email="new@example.com")
    assert user.check_password(NEW_PASSWORD)
    assert (user.full_name, user.is_verified, user.is_staff) == ("New", True, False)
    (event,) = events("user.registered")
    assert (event.actor_id, event.target_id, event.ip) == (olga.pk, str(user.pk), "127.0.0.1")
    assert event.metadata == {}


@pytest.mark.parametrize(
    ("email", "password", "field"),
    [
        ("ALICE@example.com", NEW_PASSWORD, "email"),
        ("not an address", NEW_PASSWORD, "email"),
        ("new@example.com", "short", "password"),
        ("somebody.long@example.com", "somebody.long", "password"),
        ("", "", "email"),
    ],
)
def test_a_new_user_that_cannot_be_is_explained_at_the_field(operator, alice, email, password, field):
    answer = save(operator, page(User, "add"), email=email, password=password)

    assert answer.status_code == 200
    assert field in answer.context["adminform"].form.errors
    assert f'value="{password}"' not in answer.content.decode() or not password
    assert not events("user.registered")


def test_an_address_that_is_taken_between_check_and_save_is_a_message(operator, monkeypatch):
    def taken(**_fields):
        raise Conflict("This e-mail address is taken.")

    monkeypatch.setattr(services, "register_user", taken)

    answer = save(operator, page(User, "add"), email="new@example.com", password=NEW_PASSWORD)

    assert messages(answer, operator) == ["This e-mail address is taken."]
    assert not LogEntry.objects.exists()


def test_changes_of_a_user_are_audited_each_by_its_kind(operator, alice):
    save(operator, page(alice), email="Alice2@example.com", username="alice", is_verified="on", is_active=None)

    alice.refresh_from_db()
    assert (alice.email, alice.username, alice.is_verified, alice.is_active) == (
        "alice2@example.com",
        "alice",
        True,
        False,
    )
    updated, rights, shut = events("user.updated", "user.rights_changed", "user.deactivated")
    assert updated.metadata == {"fields": ["email", "username"]}
    assert rights.metadata == {"is_verified": True}
    assert shut.target_id == str(alice.pk)


def test_saving_without_a_change_is_no_event(operator, alice):
    save(operator, page(alice))

    assert not AuditEvent.objects.exists()


def test_who_is_shut_out_is_refused_at_once(operator, alice, committing):
    raw, token = api_key(alice), access_token(alice)
    caller_for_key(raw)
    caller_for_token(token)

    with committing():
        save(operator, page(alice), is_active=None)

    with pytest.raises(NotAuthenticated):
        caller_for_key(raw)
    with pytest.raises(NotAuthenticated):
        caller_for_token(token)


def test_a_changed_address_is_in_the_snapshot_at_once(operator, alice, committing):
    raw = api_key(alice)
    caller_for_key(raw)

    with committing():
        save(operator, page(alice), email="alice2@example.com")

    assert caller_for_key(raw).email == "alice2@example.com"


def test_many_are_let_in_and_shut_out_in_one_go_but_never_oneself(operator, olga, alice, bob):
    chosen = [str(user.pk) for user in (olga, alice, bob)]

    operator.post(page(User, "changelist"), {"action": "deactivate", "_selected_action": chosen})

    assert set(User.objects.filter(is_active=True)) == {olga}
    assert len(events("user.deactivated")) == 2
    operator.post(page(User, "changelist"), {"action": "activate", "_selected_action": chosen})
    assert User.objects.filter(is_active=True).count() == 3
    assert len(events("user.activated")) == 2


@pytest.mark.parametrize("right", ["is_active", "is_staff", "is_superuser"])
def test_nobody_takes_their_own_rights(operator, olga, right):
    answer = save(operator, page(olga), **{right: None})

    assert right in answer.context["adminform"].form.errors
    olga.refresh_from_db()
    assert getattr(olga, right)


def test_a_password_is_changed_in_a_dialog(operator, alice, olga):
    answer = act(operator, alice, "change_password", password=NEW_PASSWORD)

    assert answer.headers["HX-Redirect"].startswith(page(alice))
    alice.refresh_from_db()
    assert alice.check_password(NEW_PASSWORD)
    assert alice.password_changed_at is not None
    (event,) = events("user.password_changed")
    assert (event.actor_id, event.target_id) == (olga.pk, str(alice.pk))
    assert event.metadata == {"sessions_ended": 0, "keys_revoked": 0}


def test_a_weak_password_is_refused_in_the_dialog(operator, alice):
    answer = act(operator, alice, "change_password", password="12345")

    assert answer.status_code == 200
    assert "too short" in answer.content.decode()
    alice.refresh_from_db()
    assert alice.check_password(PASSWORD)


def test_an_operator_who_changes_their_own_password_stays_signed_in(operator, olga):
    act(operator, olga, "change_password", password=NEW_PASSWORD)

    assert operator.get("/admin/").status_code == 200

    answer = operator.post(
        "/admin/password_change/",
        {"old_password": NEW_PASSWORD, "new_password1": PASSWORD + "!", "new_password2": PASSWORD + "!"},
    )

    assert answer.headers["Location"] == "/admin/password_change/done/"
    olga.refresh_from_db()
    assert olga.check_password(PASSWORD + "!")
    assert operator.get("/admin/").status_code == 200
    assert [event.actor_id for event in events("user.password_changed")] == [olga.pk, olga.pk]


def test_the_page_of_ones_own_password_opens_and_explains(operator, olga):
    assert operator.get("/admin/password_change/").status_code == 200

    wrong = {"old_password": "wrong", "new_password1": "1", "new_password2": "2"}
    answer = operator.post("/admin/password_change/", wrong)

    assert set(answer.context["form"].errors) == {"old_password", "new_password2"}
    assert not events("user.password_changed")


def test_a_user_page_leads_to_everything_of_the_user(operator, alice):
    html = operator.get(page(alice)).content.decode()

    for list_name in ("accounts/apikey", "quotas/quota", "inference/request", "conversations/conversation"):
        assert f"/admin/{list_name}/?user__id__exact={alice.pk}" in html
        assert operator.get(f"/admin/{list_name}/?user__id__exact={alice.pk}").status_code == 200


def test_history_leads_to_the_audit_events_of_the_row(operator, alice, bob):
    services.set_user_active(user=alice, is_active=False, by=bob)
    services.set_user_active(user=bob, is_active=False, by=bob)

    listed = operator.get(page(alice, "history"), follow=True)

    assert [event.target_id for event in listed.context["cl"].result_list] == [str(alice.pk)]


@pytest.fixture
def helper(client, db):
    """Staff who may change users and keys, but is no superuser."""
    user = UserFactory(email="helper@example.com", is_staff=True)
    codes = ["view_user", "add_user", "change_user", "view_apikey", "add_apikey", "change_apikey"]
    user.user_permissions.add(*Permission.objects.filter(codename__in=codes))
    client.force_login(user)
    return client


def test_a_helper_can_neither_make_nor_become_a_superuser(helper, alice, olga):
    save(helper, page(alice), is_superuser="on", is_staff="on", full_name="Alice")

    alice.refresh_from_db()
    assert (alice.is_superuser, alice.is_staff, alice.full_name) == (False, False, "Alice")
    assert helper.post(page(olga), {"email": "mine@example.com"}).status_code == 403
    assert helper.post(page(olga, "change_password"), {"password": NEW_PASSWORD}).status_code == 403
    answer = save(helper, page(ApiKey, "add"), user=str(olga.pk), name="Mine")
    assert "other staff" in str(answer.context["adminform"].form.errors["user"])
    save(helper, page(User, "add"), email="new@example.com", password=NEW_PASSWORD, is_superuser="on", is_staff="on")
    new = User.objects.get(email="new@example.com")
    assert (new.is_superuser, new.is_staff) == (False, False)
    assert save(helper, page(ApiKey, "add"), user=str(alice.pk), name="Theirs").context["secret"]
    chosen = [str(user.pk) for user in (olga, alice)]
    helper.post(page(User, "changelist"), {"action": "deactivate", "_selected_action": chosen})
    assert set(User.objects.filter(is_active=False)) == {alice}


def test_groups_are_audited(operator, alice):
    permission = Permission.objects.get(codename="view_user")
    save(operator, page(Group, "add"), name="Support", permissions=[str(permission.pk)])
    group = Group.objects.get(name="Support")
    save(operator, page(alice), groups=[str(group.pk)])
    save(operator, page(group), name="Support team")
    operator.post(page(group, "delete"), {"post": "yes"})

    assert not Group.objects.filter(pk=group.pk).exists()
    created, joined, updated, deleted = events("group.created", "user.groups_changed", "group.updated", "group.deleted")
    assert created.metadata == {"fields": ["name", "permissions"]}
    assert (joined.target_id, joined.metadata) == (str(alice.pk), {"groups": ["Support"]})
    assert updated.metadata == {"fields": ["name"]}
    assert deleted.metadata == {"name": "Support team"}
