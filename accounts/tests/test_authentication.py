"""Credentials on both surfaces, and the snapshot that spares a warm call the database."""

from datetime import timedelta
from uuid import uuid4

import pytest
import time_machine
from django.test import RequestFactory
from django.utils import timezone

from accounts import services, snapshots
from accounts.authentication import authenticate
from accounts.credentials import caller_for_key, caller_for_session
from accounts.erasing import erase_user
from accounts.exceptions import NotAuthenticated
from accounts.models import ApiKey, User
from accounts.snapshots import redis_client
from accounts.tests.credentials import access_token, api_key, caller_for_token

ME = "/api/v1/users/me"
SURFACES = (ME, "/v1/models")


def request_with(**headers):
    return RequestFactory().get(ME, headers={name.replace("_", "-"): value for name, value in headers.items()})


def assert_refused(answer, code="invalid_api_key"):
    assert answer.status_code == 401
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("authentication_error", code)
    assert answer["WWW-Authenticate"].startswith("Bearer")


# Both surfaces ---------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_both_surfaces_take_a_key_and_a_token(api, alice):
    key, token = api_key(alice), access_token(alice)
    for path in SURFACES:
        for headers in (
            {"Authorization": f"Bearer {key}"},
            {"Authorization": f"bearer  {key}"},
            {"X-API-Key": key},
            {"Authorization": f"Bearer {token}"},
        ):
            redis_client().flushdb()
            for _cold_and_warm in range(2):
                assert api().get(path, headers=headers).status_code == 200, (path, headers)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("path", SURFACES)
def test_both_surfaces_refuse_in_the_same_way(api, alice, path):
    key = api_key(alice)
    assert_refused(api().get(path), "missing_credentials")
    for headers in (
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer  "},
        {"Authorization": "Basic YWxpY2U6cGFzc3dvcmQ="},
        {"Authorization": key},
        {"Authorization": f"Token {key}"},
        {"Authorization": "Bearer sk-from-another-house"},
        {"Authorization": f"Bearer {key} {key}"},
        {"X-API-Key": "msk_"},
        {"X-API-Key": "msk__"},
        {"X-API-Key": f"{key}x"},
        {"X-API-Key": key[:-1]},
        {"X-API-Key": key.upper()},
        {"X-API-Key": "msk_" + "0" * 12 + "_" + "0" * 43},
        {"X-API-Key": "msk_" + "x" * 5000},
        {"X-API-Key": "msk_ключ_ключ".encode().decode("latin-1")},
        {"X-API-Key": "msk_\x00_secret"},
    ):
        assert_refused(api().get(path, headers=headers))
    assert_refused(api("a.b.c").get(path), "invalid_token")


def test_the_key_in_its_own_header_goes_before_the_authorization(alice, bob):
    found = authenticate(request_with(X_API_Key=api_key(alice), Authorization=f"Bearer {access_token(bob)}"))

    assert found.user_id == alice.pk


def test_no_credential_is_nobody():
    assert authenticate(request_with()) is None


def test_the_caller_knows_everything_that_a_call_needs(alice):
    raw = api_key(alice, scopes=["read"])
    request = request_with(X_API_Key=raw)
    request.META["REMOTE_ADDR"] = "10.2.3.4"

    for _cold_and_warm in range(2):
        found = authenticate(request)
        assert (found.user_id, found.email, found.is_staff) == (alice.pk, alice.email, False)
        assert found.api_key_id == ApiKey.objects.get().pk
        assert (found.scopes, found.ip) == ({"read"}, "10.2.3.4")


# Keys that may not pass ------------------------------------------------------------------------------------------


def test_the_right_prefix_with_another_secret_is_refused_cold_and_warm(alice):
    raw = api_key(alice)
    wrong = raw[:-1] + ("a" if raw[-1] != "a" else "b")

    for _cold_and_warm in range(2):
        with pytest.raises(NotAuthenticated):
            caller_for_key(wrong)
        assert caller_for_key(raw).user_id == alice.pk


def test_one_keys_secret_does_not_open_another_key(alice, bob):
    hers, his = api_key(alice), api_key(bob)
    mixed = his.rpartition("_")[0] + "_" + hers.rpartition("_")[2]

    with pytest.raises(NotAuthenticated):
        caller_for_key(mixed)


def test_a_key_ends_at_its_time_whether_redis_knows_it_or_not(alice):
    raw = api_key(alice, expires_at=timezone.now() + timedelta(seconds=30))
    assert caller_for_key(raw).user_id == alice.pk

    with time_machine.travel(timezone.now() + timedelta(seconds=31), tick=False):
        with pytest.raises(NotAuthenticated) as warm:
            caller_for_key(raw)
        assert warm.value.code == "expired_api_key"
        redis_client().flushdb()
        with pytest.raises(NotAuthenticated):
            caller_for_key(raw)


def test_a_key_of_a_deactivated_user_is_refused(api, alice):
    raw = api_key(alice)
    User.objects.update(is_active=False)

    assert_refused(api(raw).get(ME))
    assert_refused(api(alice).get(ME), "session_ended")


def test_a_token_of_a_session_that_never_was_is_refused(db):
    with pytest.raises(NotAuthenticated):
        caller_for_session(session_id=uuid4(), user_id=uuid4(), token_id="x")


# The snapshot ----------------------------------------------------------------------------------------------------


def test_a_warm_call_asks_the_database_nothing(alice, django_assert_num_queries):
    raw, token = api_key(alice), access_token(alice)
    by_key, by_token = request_with(X_API_Key=raw), request_with(Authorization=f"Bearer {token}")
    authenticate(by_key)
    authenticate(by_token)

    with django_assert_num_queries(0):
        assert authenticate(by_key).user_id == alice.pk
        assert authenticate(by_token).user_id == alice.pk


def test_a_cold_call_is_cheap_and_an_unknown_key_costs_one_query(alice, django_assert_num_queries):
    raw, token = api_key(alice), access_token(alice)

    with django_assert_num_queries(3):
        authenticate(request_with(X_API_Key=raw))
    with django_assert_num_queries(3):
        authenticate(request_with(Authorization=f"Bearer {token}"))
    with django_assert_num_queries(1), pytest.raises(NotAuthenticated):
        authenticate(request_with(X_API_Key="msk_" + "0" * 12 + "_" + "0" * 43))


def test_when_a_key_was_last_used_is_noted_once_for_each_snapshot(alice):
    raw = api_key(alice)
    assert ApiKey.objects.get().last_used_at is None
    with pytest.raises(NotAuthenticated):
        caller_for_key(raw + "x")
    assert ApiKey.objects.get().last_used_at is None

    caller_for_key(raw)
    first = ApiKey.objects.get().last_used_at
    caller_for_key(raw)
    assert ApiKey.objects.get().last_used_at == first is not None

    redis_client().flushdb()
    caller_for_key(raw)
    assert ApiKey.objects.get().last_used_at > first


def test_a_snapshot_ends_by_itself_and_holds_no_secret(alice, settings):
    raw = api_key(alice)
    caller_for_key(raw)
    caller_for_token(access_token(alice))

    names = redis_client().keys("auth:*")
    assert len(names) == 2
    for name in names:
        assert 0 < redis_client().ttl(name) <= settings.AUTH_SNAPSHOT_SECONDS
        assert raw.rpartition("_")[2].encode() not in redis_client().get(name)


def revoke(alice, olga):
    services.revoke_api_key(key_id=ApiKey.objects.get(user=alice).pk, by=olga)


def deactivate(alice, olga):
    services.set_user_active(user=alice, is_active=False, by=olga)


def erase(alice, olga):
    erase_user(user_id=alice.pk, by=alice)


@pytest.mark.parametrize("change", [revoke, deactivate, erase])
def test_what_ends_access_ends_a_warm_key_at_once(alice, olga, change, django_capture_on_commit_callbacks):
    raw = api_key(alice)
    caller_for_key(raw)

    with django_capture_on_commit_callbacks(execute=True):
        change(alice, olga)

    with pytest.raises(NotAuthenticated):
        caller_for_key(raw)


@pytest.mark.parametrize("change", [deactivate, erase])
def test_what_ends_access_ends_a_warm_token_at_once(alice, olga, change, django_capture_on_commit_callbacks):
    token = access_token(alice)
    caller_for_token(token)

    with django_capture_on_commit_callbacks(execute=True):
        change(alice, olga)

    with pytest.raises(NotAuthenticated):
        caller_for_token(token)


def test_an_activated_user_is_let_in_again_at_once(alice, olga, django_capture_on_commit_callbacks):
    raw = api_key(alice)
    with django_capture_on_commit_callbacks(execute=True):
        deactivate(alice, olga)
    with pytest.raises(NotAuthenticated):
        caller_for_key(raw)
    with django_capture_on_commit_callbacks(execute=True):
        services.set_user_active(user=alice, is_active=True, by=olga)

    assert caller_for_key(raw).user_id == alice.pk


def test_a_change_is_seen_at_once_by_key_and_token(alice, django_capture_on_commit_callbacks):
    raw, token = api_key(alice), access_token(alice)
    caller_for_key(raw)
    caller_for_token(token)

    with django_capture_on_commit_callbacks(execute=True):
        services.update_user(user_id=alice.pk, by=alice, email="new@example.com")

    assert caller_for_key(raw).email == caller_for_token(token).email == "new@example.com"


def test_a_change_that_is_rolled_back_drops_nothing(alice, django_capture_on_commit_callbacks):
    raw = api_key(alice)
    caller_for_key(raw)
    with django_capture_on_commit_callbacks() as callbacks:
        services.update_user(user_id=alice.pk, by=alice, full_name="Alice")

    assert len(callbacks) == 1
    assert snapshots.read(name_of(raw)) != [None]


def name_of(raw):
    return snapshots.of_key(raw.split("_")[1])


@pytest.mark.parametrize("change", [revoke, deactivate])
def test_a_reader_who_read_before_the_change_does_not_bring_a_key_back(
    alice, olga, change, django_capture_on_commit_callbacks
):
    raw = api_key(alice)
    caller_for_key(raw)
    generation, [old] = snapshots.generation_of(alice.pk), snapshots.read(name_of(raw))

    with django_capture_on_commit_callbacks(execute=True):
        change(alice, olga)
    snapshots.store(name_of(raw), old, generation=generation)

    assert snapshots.read(name_of(raw)) == [None]
    with pytest.raises(NotAuthenticated):
        caller_for_key(raw)


def test_a_reader_who_read_before_the_change_does_not_bring_a_session_back(
    alice, olga, django_capture_on_commit_callbacks
):
    token = access_token(alice)
    session = caller_for_token(token).session_id
    generation, old = snapshots.generation_of(alice.pk), snapshots.read_session(session, alice.pk)

    with django_capture_on_commit_callbacks(execute=True):
        deactivate(alice, olga)
    snapshots.store(snapshots.of_session(session), old, generation=generation)

    with pytest.raises(NotAuthenticated):
        caller_for_token(token)


def test_a_reader_who_read_after_the_change_does_store(alice, django_capture_on_commit_callbacks):
    """So the tests above do not pass because nothing is ever stored."""
    raw, token = api_key(alice), access_token(alice)
    with django_capture_on_commit_callbacks(execute=True):
        services.update_user(user_id=alice.pk, by=alice, full_name="Alice")
    caller_for_key(raw)
    session = caller_for_token(token).session_id

    assert snapshots.read(name_of(raw))[0]["email"] == alice.email
    assert snapshots.read_session(session, alice.pk)["email"] == alice.email


def test_somebody_elses_change_leaves_my_snapshot(alice, bob, olga, django_capture_on_commit_callbacks):
    raw = api_key(bob)
    caller_for_key(raw)
    with django_capture_on_commit_callbacks(execute=True):
        deactivate(alice, olga)

    assert snapshots.read(name_of(raw)) != [None]


def test_what_comes_back_from_a_file_of_redis_is_not_believed(alice, monkeypatch, django_assert_num_queries):
    raw, token = api_key(alice), access_token(alice)
    caller_for_key(raw)
    caller_for_token(token)
    monkeypatch.setattr(redis_client(), "run_id", "another run of the server")

    with django_assert_num_queries(6):
        caller_for_key(raw)
        caller_for_token(token)


# Without Redis ---------------------------------------------------------------------------------------------------


def test_without_redis_the_database_answers(api, alice, redis_away):
    raw = api_key(alice)

    assert api(raw).get(ME).status_code == 200
    assert api(alice).get(ME).status_code == 200
    assert_refused(api(raw + "x").get(ME))


def test_a_redis_that_fails_is_not_asked_again_at_once(alice, redis_away):
    raw = api_key(alice)
    caller_for_key(raw)
    asked = redis_client().away_until
    caller_for_key(raw)

    assert redis_client().away_until == asked > 0


def test_without_redis_access_still_ends_at_once(api, alice, olga, redis_away, django_capture_on_commit_callbacks):
    raw = api_key(alice)
    with django_capture_on_commit_callbacks(execute=True):
        revoke(alice, olga)
    assert_refused(api(raw).get(ME))

    with django_capture_on_commit_callbacks(execute=True):
        deactivate(alice, olga)
    assert_refused(api(alice).get(ME), "session_ended")
