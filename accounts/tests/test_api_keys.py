"""GET and POST /api/v1/users/me/api-keys, DELETE /api/v1/users/me/api-keys/{id}."""

import hashlib
from datetime import timedelta

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from accounts import services
from accounts.exceptions import InvalidInput, NotFound
from accounts.models import ApiKey, AuditEvent
from accounts.tests.credentials import api_key

PATH = "/api/v1/users/me/api-keys"
ME = "/api/v1/users/me"


def test_a_new_key_is_shown_once_and_works(api, alice):
    answer = api(alice).post(PATH, {"name": "laptop"})

    assert answer.status_code == 201
    body = answer.json()
    raw = body["key"]
    assert raw.startswith(body["prefix"] + "_")
    assert api(raw).get(ME).json()["id"] == str(alice.pk)

    listed = api(alice).get(PATH)
    detail = api(alice).get(f"{PATH}/{body['id']}")
    secret = raw.removeprefix(body["prefix"])
    assert [key["id"] for key in listed.json()["results"]] == [body["id"]]
    assert listed.json()["results"][0]["prefix"] == body["prefix"]
    for later in (listed, detail):
        assert secret not in later.content.decode()
        assert "hash" not in later.content.decode()


def test_only_the_hash_is_stored_anywhere(api, alice):
    raw = api(alice).post(PATH, {"name": "laptop"}).json()["key"]
    secret = raw.rpartition("_")[2]

    with connection.cursor() as cursor:
        for table in ("accounts_apikey", "accounts_auditevent"):
            cursor.execute(f"SELECT t::text FROM {table} t")
            assert secret not in str(cursor.fetchall())
    assert ApiKey.objects.get().key_hash == hashlib.sha256(raw.encode()).hexdigest()


def test_keys_are_long_and_never_the_same(alice):
    keys = {api_key(alice) for _ in range(50)}

    assert len(keys) == 50
    for raw in keys:
        mark, prefix, secret = raw.split("_")
        assert mark == "msk"
        assert (len(prefix), len(secret)) == (12, 43)
        assert secret.isalnum()


def test_a_key_may_have_scopes_and_an_end(api, alice):
    ends = timezone.now() + timedelta(days=1)
    answer = api(alice).post(PATH, {"name": "bot", "scopes": ["read"], "expires_at": ends.isoformat()})

    assert answer.status_code == 201
    key = ApiKey.objects.get()
    assert (key.scopes, key.expires_at) == (["read"], ends)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "  "}, "name"),
        ({"name": "x" * 256}, "name"),
        ({"name": "bot", "scopes": "act-as"}, "scopes"),
        ({"name": "bot", "scopes": ["x" * 41]}, "scopes.0"),
        ({"name": "bot", "expires_at": "tomorrow"}, "expires_at"),
        ({"name": "bot", "expires_at": "2001-01-01T00:00:00Z"}, "expires_at"),
        ({"name": "bot", "expires_at": "0001-01-01T00:00:00+23:59"}, "expires_at"),
        ({"name": "bot", "expires_at": "9999-12-31T23:59:59-23:59"}, "expires_at"),
    ],
)
def test_a_senseless_key_is_refused(api, alice, body, param):
    answer = api(alice).post(PATH, body)

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert not ApiKey.objects.exists()


def test_what_is_not_the_callers_to_set_is_ignored(api, alice, bob):
    answer = api(alice).post(
        PATH, {"name": "bot", "user": str(bob.pk), "prefix": "mine", "key_hash": "0" * 64, "is_active": False}
    )

    assert answer.status_code == 201
    key = ApiKey.objects.get()
    assert (key.user_id, key.is_active) == (alice.pk, True)
    assert key.prefix != "mine"


def test_i_see_only_my_own_keys(api, alice, bob):
    api_key(alice, name="hers")
    api_key(bob, name="his")
    his = ApiKey.objects.get(user=bob)

    assert [key["name"] for key in api(alice).get(PATH).json()["results"]] == ["hers"]
    assert api(alice).get(f"{PATH}/{his.pk}").status_code == 404


def test_a_revoked_key_stops_working_at_once(api, alice, django_capture_on_commit_callbacks):
    raw, other = api_key(alice), api_key(alice)
    key = ApiKey.objects.get(key_hash=hashlib.sha256(raw.encode()).hexdigest())
    assert api(raw).get(ME).status_code == 200

    with django_capture_on_commit_callbacks(execute=True):
        assert api(alice).delete(f"{PATH}/{key.pk}").status_code == 204

    refused = api(raw).get(ME)
    assert refused.status_code == 401
    assert refused.json()["error"]["code"] == "invalid_api_key"
    assert api(other).get(ME).status_code == 200
    assert api(alice).get(f"{PATH}/{key.pk}").json()["is_active"] is False


def test_revoking_twice_is_fine_and_audited_once(api, alice):
    api_key(alice)
    path = f"{PATH}/{ApiKey.objects.get().pk}"

    assert [api(alice).delete(path).status_code for _ in range(2)] == [204, 204]
    assert AuditEvent.objects.filter(action="api_key.revoked").count() == 1


def test_somebody_elses_key_cannot_be_revoked(api, alice, bob):
    raw = api_key(bob)

    answer = api(alice).delete(f"{PATH}/{ApiKey.objects.get().pk}")

    assert answer.status_code == 404
    assert answer.json()["error"]["type"] == "not_found_error"
    assert api(raw).get(ME).status_code == 200
    assert not AuditEvent.objects.filter(action="api_key.revoked").exists()


@pytest.mark.parametrize("id", ["00000000-0000-0000-0000-000000000000", "1", "no-uuid", "%00"])
def test_a_key_that_does_not_exist_is_not_found(api, alice, id):
    assert api(alice).delete(f"{PATH}/{id}").status_code == 404


def test_an_operator_revokes_anybodys_key_through_the_service(alice, olga):
    api_key(alice)
    key = ApiKey.objects.get()

    services.revoke_api_key(key_id=key.pk, by=olga)

    key.refresh_from_db()
    assert not key.is_active
    assert AuditEvent.objects.get(action="api_key.revoked").actor_id == olga.pk
    with pytest.raises(NotFound):
        services.revoke_api_key(key_id=olga.pk, by=olga)


def test_the_service_itself_refuses_a_key_without_a_name_or_a_future(alice):
    for fields in ({"name": " "}, {"expires_at": timezone.now()}):
        with pytest.raises(InvalidInput):
            api_key(alice, **fields)
    assert not ApiKey.objects.exists()


def test_making_a_key_is_audited_without_its_secret(api, alice):
    raw = api(alice).post(PATH, {"name": "laptop"}).json()["key"]

    event = AuditEvent.objects.get(action="api_key.created")
    assert event.target_id == str(ApiKey.objects.get().pk)
    assert event.metadata == {"scopes": ["inference", "conversations", "prompts", "read"]}
    assert raw not in str(event.metadata)


def test_the_database_takes_no_hash_that_is_none(alice):
    for change in ({"key_hash": "plain text"}, {"name": ""}):
        fields = {"user": alice, "name": "x", "prefix": "p", "key_hash": "0" * 64} | change
        with pytest.raises(IntegrityError), transaction.atomic():
            ApiKey.objects.create(**fields)
