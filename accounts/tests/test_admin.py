"""Users and keys in the admin: what operators change, and that secrets are on one page, once."""

from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission
from django.utils import timezone

from accounts import services
from accounts.caller import caller_for_key, caller_for_user, redis_client
from accounts.exceptions import Conflict, NotAuthenticated
from accounts.models import ApiKey, AuditEvent, User
from accounts.tests.credentials import api_key
from accounts.tests.factories import PASSWORD, UserFactory
from tests.admin import act, filled_form, messages, page, save

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


# Users


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
    raw = api_key(alice)
    with committing():
        pass
    caller_for_key(raw)
    caller_for_user(alice.pk)

    with committing():
        save(operator, page(alice), is_active=None)

    with pytest.raises(NotAuthenticated):
        caller_for_key(raw)
    with pytest.raises(NotAuthenticated):
        caller_for_user(alice.pk)


def test_a_changed_address_is_in_the_snapshot_at_once(operator, alice, committing):
    caller_for_user(alice.pk)

    with committing():
        save(operator, page(alice), email="alice2@example.com")

    assert caller_for_user(alice.pk).email == "alice2@example.com"


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
    assert (event.actor_id, event.target_id, event.metadata) == (olga.pk, str(alice.pk), {})


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
    assert make_key(helper, alice).context["secret"]
    chosen = [str(user.pk) for user in (olga, alice)]
    helper.post(page(User, "changelist"), {"action": "deactivate", "_selected_action": chosen})
    assert set(User.objects.filter(is_active=False)) == {alice}


def test_groups_are_audited(operator, alice):
    permission = Permission.objects.get(codename="view_user")
    save(operator, page(Group, "add"), name="Support", permissions=[str(permission.pk)])
    group = Group.objects.get()
    save(operator, page(alice), groups=[str(group.pk)])
    save(operator, page(group), name="Support team")
    operator.post(page(group, "delete"), {"post": "yes"})

    assert not Group.objects.exists()
    created, joined, updated, deleted = events("group.created", "user.groups_changed", "group.updated", "group.deleted")
    assert created.metadata == {"fields": ["name", "permissions"]}
    assert (joined.target_id, joined.metadata) == (str(alice.pk), {"groups": ["Support"]})
    assert updated.metadata == {"fields": ["name"]}
    assert deleted.metadata == {"name": "Support team"}


# API keys


def make_key(client, owner, **fields):
    return save(client, page(ApiKey, "add"), **{"user": str(owner.pk), "name": "Laptop", **fields})


def test_a_key_is_shown_once_and_works(operator, alice, olga):
    answer = make_key(operator, alice, scopes="act-as, read")

    raw = answer.context["secret"]
    assert answer.status_code == 200
    assert f'value="{raw}"' in answer.content.decode()
    assert "no-store" in answer.headers["Cache-Control"]
    caller = caller_for_key(raw)
    assert (caller.user_id, caller.scopes) == (alice.pk, frozenset({"act-as", "read"}))
    (event,) = events("api_key.created")
    assert (event.actor_id, event.metadata) == (olga.pk, {"name": "Laptop"})


def test_the_secret_is_nowhere_after_that_page(operator, alice):
    raw = make_key(operator, alice).context["secret"]
    secret = raw.rpartition("_")[2]
    key = ApiKey.objects.get()

    pages = [page(key), page(ApiKey, "changelist"), page(AuditEvent, "changelist"), page(alice), "/admin/"]
    html = "".join(operator.get(address, follow=True).content.decode() for address in pages)
    assert key.prefix in html
    assert secret not in html
    entries = [(entry.object_repr, entry.change_message) for entry in LogEntry.objects.all()]
    assert entries
    assert secret not in str(entries)
    assert secret not in str(list(AuditEvent.objects.values()))
    assert secret not in str(list(ApiKey.objects.values()))
    assert secret not in str(operator.cookies)
    kept = [redis_client().dump(name) for name in redis_client().keys("*")]
    assert kept
    assert secret.encode() not in b"".join(kept)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": " "}, "name"),
        ({"user": ""}, "user"),
        ({"expires_at_0": "2020-01-01", "expires_at_1": "00:00"}, "expires_at"),
        ({"expires_at_0": "tomorrow", "expires_at_1": "00:00"}, "expires_at"),
        ({"scopes": "x" * 41}, "scopes"),
    ],
)
def test_a_key_that_cannot_be_is_explained_at_the_field(operator, alice, fields, field):
    answer = make_key(operator, alice, **fields)

    assert field in answer.context["adminform"].form.errors
    assert not ApiKey.objects.exists()


def test_no_key_is_made_for_a_user_who_is_shut_out(operator, alice):
    services.set_user_active(user=alice, is_active=False, by=alice)

    answer = make_key(operator, alice)

    assert "user" in answer.context["adminform"].form.errors


def test_a_key_with_an_expiry(operator, alice):
    make_key(operator, alice, expires_at_0="2999-01-01", expires_at_1="12:00:00")

    assert ApiKey.objects.get().expires_at.year == 2999


def test_a_user_page_leads_to_the_form_for_that_user(operator, alice):
    leads_to = operator.get(page(alice, "new_key")).headers["Location"]

    assert filled_form(operator, leads_to)["user"] == str(alice.pk)


def test_a_revoked_key_is_refused_at_once(operator, alice, olga, committing):
    raw = api_key(alice)
    key = ApiKey.objects.get()
    caller_for_key(raw)

    with committing():
        answer = act(operator, key, "revoke")

    with pytest.raises(NotAuthenticated):
        caller_for_key(raw)
    assert "is revoked" in messages(answer, operator)[0]
    (event,) = events("api_key.revoked")
    assert (event.actor_id, event.target_id) == (olga.pk, str(key.pk))
    assert operator.get(page(key, "revoke")).status_code == 403


def test_revoking_needs_more_than_opening_its_address(operator, alice):
    api_key(alice)
    key = ApiKey.objects.get()

    operator.get(page(key, "revoke"))
    operator.post(page(key, "revoke"))

    key.refresh_from_db()
    assert key.is_active


def test_many_keys_are_revoked_in_one_go(operator, alice):
    for _ in range(3):
        api_key(alice)
    chosen = [str(key.pk) for key in ApiKey.objects.all()]
    services.revoke_api_key(key_id=chosen[0], by=alice)

    operator.post(page(ApiKey, "changelist"), {"action": "revoke_chosen", "_selected_action": chosen})

    assert not ApiKey.objects.filter(is_active=True).exists()
    assert len(events("api_key.revoked")) == 3


def test_keys_are_found_by_name_owner_and_visible_part(operator, alice, bob):
    raw = api_key(alice, name="Laptop")
    api_key(bob, name="Server")

    def found(term):
        return [key.name for key in operator.get(page(ApiKey, "changelist"), {"q": term}).context["cl"].result_list]

    assert found("lapt") == ["Laptop"]
    assert found("bob@") == ["Server"]
    assert found(raw[:10]) == ["Laptop"]
    assert found(raw) == ["Laptop"]
    assert found("msk_nothing") == []


def test_keys_say_and_are_filtered_by_their_state(operator, alice, bob):
    now = timezone.now()
    for name, fields in {
        "usable": {},
        "revoked": {"is_active": False},
        "expired": {"expires_at": now - timedelta(days=1)},
        "waiting": {"user": bob},
    }.items():
        api_key(alice, name=name)
        ApiKey.objects.filter(name=name).update(**fields)
    services.set_user_active(user=bob, is_active=False, by=alice)

    html = operator.get(page(ApiKey, "changelist")).content.decode()
    for state in ("usable", "revoked", "expired", "owner inactive"):
        assert state in html
    for state in ("usable", "revoked", "expired"):
        listed = operator.get(page(ApiKey, "changelist"), {"state": state}).context["cl"].result_list
        assert [key.name for key in listed] == [state]


# Audit events


def test_events_are_found_by_the_id_of_actor_target_or_event(operator, alice, bob):
    services.set_user_active(user=alice, is_active=False, by=bob)
    event = AuditEvent.objects.get()

    for term in (str(alice.pk), str(bob.pk), str(event.pk), "bob@", "deactivated"):
        assert list(operator.get(page(AuditEvent, "changelist"), {"q": term}).context["cl"].result_list) == [event]
    assert not operator.get(page(AuditEvent, "changelist"), {"q": "carol"}).context["cl"].result_list


def test_an_event_shows_its_details_and_links_to_actor_and_target(operator, alice, bob):
    event = services.audit.record("user.praised", by=bob, target=alice, reason="<b>well</b> done")
    services.audit.record("house.cleaned", by=None)
    services.audit.record("entry.read", by=bob, target=LogEntry(pk=1234))

    html = operator.get(page(event)).content.decode()

    assert "&lt;b&gt;well&lt;/b&gt; done" in html
    assert page(alice) in html
    assert page(bob) in html
    listed = operator.get(page(AuditEvent, "changelist")).content.decode()
    assert "the system" in listed
    assert "logentry …1234" in listed
