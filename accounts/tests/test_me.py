"""GET, PUT, PATCH and DELETE /api/v1/users/me."""

import pytest
from django.db import IntegrityError, transaction

from accounts import services
from accounts.exceptions import InvalidInput
from accounts.models import ApiKey, AuditEvent, User
from accounts.tests.credentials import api_key
from accounts.tests.factories import PASSWORD, UserFactory

PATH = "/api/v1/users/me"
WRITABLE = {"email": "new@example.com", "full_name": "New Name", "username": "newbie", "preferred_model": "smollm2"}


def test_i_see_myself_and_no_secret(api, alice):
    body = api(alice).get(PATH).json()

    assert body["id"] == str(alice.pk)
    assert body["email"] == "alice@example.com"
    assert not {"password", "stripe_customer_id", "is_superuser"} & set(body)


def test_put_replaces_and_patch_changes_one_thing(api, alice, django_capture_on_commit_callbacks):
    me = api(alice)
    with django_capture_on_commit_callbacks(execute=True):
        put = me.put(PATH, WRITABLE | {"metadata": {"theme": "dark"}})
        patch = me.patch(PATH, {"full_name": "Newer Name"})

    assert (put.status_code, patch.status_code) == (200, 200)
    alice.refresh_from_db()
    assert (alice.email, alice.username, alice.full_name) == ("new@example.com", "newbie", "Newer Name")
    assert alice.metadata == {"theme": "dark"}
    assert me.get(PATH).json() == patch.json()


def test_what_is_not_mine_to_change_stays(api, alice):
    answer = api(alice).patch(
        PATH,
        {"is_staff": True, "is_superuser": True, "is_verified": True, "is_active": False, "id": "x", "password": "y"},
    )

    assert answer.status_code == 200
    alice.refresh_from_db()
    assert (alice.is_staff, alice.is_superuser, alice.is_verified, alice.is_active) == (False, False, False, True)
    assert alice.check_password(PASSWORD)


def test_a_new_address_has_to_be_verified_again_and_the_same_in_capitals_does_not(api, alice):
    User.objects.update(is_verified=True)
    api(alice).patch(PATH, {"email": "ALICE@EXAMPLE.COM"})
    alice.refresh_from_db()
    assert (alice.email, alice.is_verified) == ("alice@example.com", True)

    api(alice).patch(PATH, {"email": "other@example.com"})
    alice.refresh_from_db()
    assert (alice.email, alice.is_verified) == ("other@example.com", False)


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [({"email": "BOB@example.com"}, "email_taken", "email"), ({"username": "bobby"}, "username_taken", "username")],
)
def test_what_somebody_else_has_is_taken(api, alice, bob, change, code, param):
    User.objects.filter(pk=bob.pk).update(username="bobby")

    answer = api(alice).patch(PATH, change | {"full_name": "Not written"})

    assert answer.status_code == 409
    assert (answer.json()["error"]["code"], answer.json()["error"]["param"]) == (code, param)
    alice.refresh_from_db()
    assert (alice.email, alice.username, alice.full_name) == ("alice@example.com", None, "")


def test_metadata_have_an_end(api, alice):
    answer = api(alice).patch(PATH, {"metadata": {"a": "x" * 17_000}}, content_type="application/json")

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "metadata")


def test_two_users_can_both_have_no_user_name(api, alice, bob):
    for name in ("", None):
        assert api(alice).patch(PATH, {"username": name}).status_code == 200
        assert api(bob).patch(PATH, {"username": name}).status_code == 200


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"email": "no address"}, "email"),
        ({"email": ""}, "email"),
        ({"email": None}, "email"),
        ({"full_name": "x" * 256}, "full_name"),
        ({"username": "x" * 151}, "username"),
        ({"preferred_model": ["a"]}, "preferred_model"),
    ],
)
def test_a_senseless_change_names_the_field_and_changes_nothing(api, alice, change, param):
    answer = api(alice).patch(PATH, change)

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    alice.refresh_from_db()
    assert alice.email == "alice@example.com"


def test_put_needs_what_cannot_be_left_out(api, alice):
    answer = api(alice).put(PATH, {"full_name": "Alice"})

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "email"


def test_a_change_is_audited_by_the_names_of_its_fields(api, alice):
    api(alice).patch(PATH, {"full_name": "Secret Name"}, REMOTE_ADDR="10.1.2.3")

    event = AuditEvent.objects.get(action="user.updated")
    assert event.actor_id == alice.pk
    assert event.ip == "10.1.2.3"
    assert event.metadata == {"fields": ["full_name"]}


def test_deleting_the_account_ends_every_way_in_at_once(api, alice, django_capture_on_commit_callbacks):
    key = api_key(alice)
    by_token, by_key = api(alice), api(key)
    assert by_key.get(PATH).status_code == by_token.get(PATH).status_code == 200

    with django_capture_on_commit_callbacks(execute=True):
        answer = by_token.delete(PATH)

    assert (answer.status_code, answer.content) == (204, b"")
    assert by_token.get(PATH).status_code == 401
    assert by_key.get(PATH).status_code == 401
    sign_in = {"email": "alice@example.com", "password": PASSWORD}
    assert api().post("/api/v1/auth/token", sign_in).status_code == 401
    assert not ApiKey.objects.exists()
    assert AuditEvent.objects.filter(action="user.erased", actor_id=alice.pk).count() == 1


def test_deleting_my_account_leaves_others_alone(api, alice, bob, django_capture_on_commit_callbacks):
    key = api_key(bob)
    with django_capture_on_commit_callbacks(execute=True):
        api(alice).delete(PATH)

    assert api(bob).get(PATH).status_code == api(key).get(PATH).status_code == 200


def test_a_user_whose_row_is_gone_while_redis_still_knows_them_is_not_an_error_of_ours(api, alice):
    ghost = api(alice)
    assert ghost.get(PATH).status_code == 200
    User.objects.filter(pk=alice.pk).delete()

    for answer in (ghost.get(PATH), ghost.patch(PATH, {"full_name": "x"}), ghost.delete(PATH)):
        assert answer.status_code == 404
        assert answer.json()["error"]["message"] == "No such user."


def test_the_service_refuses_fields_that_nobody_may_edit(alice):
    with pytest.raises(InvalidInput) as refusal:
        services.update_user(user_id=alice.pk, by=alice, is_staff=True)
    assert refusal.value.param == "is_staff"


def test_addresses_are_unique_and_lower_case_in_the_database_too(alice):
    with pytest.raises(IntegrityError), transaction.atomic():
        UserFactory(email="alice@example.com")
    with pytest.raises(IntegrityError), transaction.atomic():
        UserFactory(email="Alice@example.com")
    with pytest.raises(IntegrityError), transaction.atomic():
        UserFactory(email="")
