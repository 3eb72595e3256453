"""Sessions: rotation, what a token that is used twice means, and every way in which they end."""

import threading
from datetime import timedelta

import pytest
import time_machine
from django.db import connection
from django.utils import timezone

from accounts import services, sessions, tokens
from accounts.exceptions import Conflict, DomainError, NotAuthenticated, NotFound
from accounts.models import AuditEvent, BlacklistedToken, Session
from accounts.snapshots import redis_client
from accounts.tests.credentials import api_key, caller_for_token
from accounts.tests.factories import PASSWORD

ME = "/api/v1/users/me"
SESSIONS = "/api/v1/users/me/sessions"
LOGOUT = "/api/v1/auth/logout"
LOGOUT_ALL = "/api/v1/auth/logout-all"
PASSWORD_PATH = "/api/v1/users/me/change-password"

pytestmark = pytest.mark.django_db


def sign_in(user, **fields):
    return tokens.sign_in(**{"user": user, "ip": "10.1.2.3", "user_agent": "tests"} | fields)


def refresh(text):
    return tokens.refresh(text, ip="10.9.9.9", user_agent="later")


# Rotation --------------------------------------------------------------------------------------------------------


def test_a_sign_in_begins_a_session_that_says_where_it_was(api, alice):
    body = {"email": alice.email, "password": PASSWORD, "device": "Alice's phone"}
    api(HTTP_USER_AGENT="Phone/1.0").post("/api/v1/auth/token", body)

    session = Session.objects.get()
    assert (session.user, session.device, session.user_agent) == (alice, "Alice's phone", "Phone/1.0")
    assert session.ip == "127.0.0.1"


def test_a_refresh_keeps_the_session_and_makes_the_old_token_worthless(alice):
    first = sign_in(alice)
    second = refresh(first.refresh)

    assert Session.objects.count() == 1
    assert caller_for_token(second.access).session_id == caller_for_token(first.access).session_id
    with pytest.raises(DomainError):
        refresh(first.refresh)
    assert refresh(second.refresh)


def test_a_token_that_is_sent_twice_at_once_gets_nothing_and_ends_nothing(alice):
    first = sign_in(alice)
    second = refresh(first.refresh)
    with pytest.raises(Conflict) as refusal:
        refresh(first.refresh)

    assert refusal.value.code == "token_already_rotated"
    assert caller_for_token(second.access)


def test_a_token_that_is_used_again_later_ends_the_whole_session(alice, django_capture_on_commit_callbacks):
    first = sign_in(alice)
    second = refresh(first.refresh)
    caller_for_token(second.access)
    with (
        time_machine.travel(timezone.now() + timedelta(seconds=11), tick=False),
        django_capture_on_commit_callbacks(execute=True),
        pytest.raises(NotAuthenticated) as refusal,
    ):
        refresh(first.refresh)

    assert refusal.value.code == "token_reused"
    for worthless in (lambda: caller_for_token(second.access), lambda: refresh(second.refresh)):
        with pytest.raises(NotAuthenticated):
            worthless()
    event = AuditEvent.objects.get(action="session.token_reused")
    assert (event.status, event.ip, event.user_agent) == ("failure", "10.9.9.9", "later")
    assert event.target_id == str(Session.objects.get().pk)


def test_an_older_ancestor_is_taken_for_stolen_even_at_once(alice):
    first = sign_in(alice)
    third = refresh(refresh(first.refresh).refresh)
    with pytest.raises(NotAuthenticated):
        refresh(first.refresh)
    with pytest.raises(NotAuthenticated):
        refresh(third.refresh)


@pytest.mark.django_db(transaction=True)
def test_of_many_refreshes_with_one_token_exactly_one_wins(alice):
    first = sign_in(alice)
    won, lost = [], []
    barrier = threading.Barrier(8)

    def use():
        barrier.wait()
        try:
            won.append(refresh(first.refresh))
        except Conflict:
            lost.append(1)
        finally:
            connection.close()

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (len(won), len(lost)) == (1, 7)
    assert caller_for_token(won[0].access)
    assert refresh(won[0].refresh)


def test_a_session_ends_by_itself(alice, settings):
    pair = sign_in(alice)
    Session.objects.update(expires_at=timezone.now())
    with pytest.raises(NotAuthenticated):
        refresh(pair.refresh)
    with pytest.raises(NotAuthenticated):
        caller_for_token(pair.access)


# Signing out -----------------------------------------------------------------------------------------------------


@pytest.fixture
def committing(django_capture_on_commit_callbacks):
    return lambda: django_capture_on_commit_callbacks(execute=True)


def test_signing_out_ends_the_session_at_once_and_no_other(api, alice, committing):
    here, there = sign_in(alice), sign_in(alice)
    for pair in (here, there):
        assert api(pair.access).get(ME).status_code == 200
    with committing():
        assert api(here.access).post(LOGOUT).status_code == 204

    answer = api(here.access).get(ME)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "session_ended")
    assert api(there.access).get(ME).status_code == 200
    with pytest.raises(NotAuthenticated):
        refresh(here.refresh)
    assert set(BlacklistedToken.objects.values_list("token_type", flat=True)) == {"access", "refresh"}
    assert AuditEvent.objects.get(action="session.signed_out").actor_id == alice.pk


def test_signing_out_takes_the_refresh_token_alone(api, alice):
    pair = sign_in(alice)

    assert api().post(LOGOUT, {"refresh": pair.refresh}).status_code == 204
    assert api(pair.access).get(ME).status_code == 401
    assert api().post(LOGOUT, {"refresh": pair.refresh}).status_code == 204


@pytest.mark.parametrize("body", [{"refresh": "made up"}, {"refresh": "a.b.c"}])
def test_a_made_up_token_signs_nobody_out(api, alice, body):
    assert api().post(LOGOUT, body).status_code == 401


def test_a_key_has_no_session_to_end(api, alice):
    answer = api(api_key(alice, scopes=["admin"])).post(LOGOUT)

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "no_session")


def test_signing_out_everywhere_ends_all_sessions_and_leaves_keys(api, alice, bob, committing):
    mine, other, bobs, key = sign_in(alice), sign_in(alice), sign_in(bob), api_key(alice)
    for credential in (mine.access, other.access, bobs.access, key):
        assert api(credential).get(ME).status_code == 200
    with committing():
        assert api(mine.access).post(LOGOUT_ALL).status_code == 204

    assert [api(credential).get(ME).status_code for credential in (mine.access, other.access)] == [401, 401]
    assert [api(credential).get(ME).status_code for credential in (bobs.access, key)] == [200, 200]


def test_an_operator_signs_somebody_out_also_of_the_admin(client, olga, committing):
    client.force_login(olga)
    pair = sign_in(olga)
    with committing():
        assert sessions.sign_out_everywhere(user_id=olga.pk, by=olga) == 1

    assert client.get("/admin/").status_code == 302
    with pytest.raises(NotAuthenticated):
        caller_for_token(pair.access)


def test_what_was_revoked_stays_so_when_redis_forgets_everything(alice, committing):
    pair = sign_in(alice)
    caller_for_token(pair.access)
    with committing():
        sessions.revoke_sessions(user_id=alice.pk, reason=Session.Reason.REVOKED, by=alice)
    redis_client().flushdb()

    with pytest.raises(NotAuthenticated):
        caller_for_token(pair.access)


def test_without_redis_revoking_still_counts_at_once(alice, redis_away, committing):
    pair = sign_in(alice)
    assert caller_for_token(pair.access)
    with committing():
        sessions.sign_out_everywhere(user_id=alice.pk, by=alice)

    with pytest.raises(NotAuthenticated):
        caller_for_token(pair.access)


@pytest.mark.usefixtures("redis_away")
def test_one_blacklisted_access_token_is_refused_and_its_session_goes_on_without_redis(alice):
    blacklisted_alone(alice)


def test_one_blacklisted_access_token_is_refused_and_its_session_goes_on(alice, committing):
    with committing():
        blacklisted_alone(alice)


def blacklisted_alone(alice):
    pair = sign_in(alice)
    claims = tokens.read_access_token(pair.access)
    sessions.blacklist_access_token(
        token_id=claims.id, session_id=claims.session_id, expires_at=claims.expires_at, by=alice
    )

    with pytest.raises(NotAuthenticated):
        caller_for_token(pair.access)
    assert caller_for_token(refresh(pair.refresh).access)


# The list --------------------------------------------------------------------------------------------------------


def test_the_list_shows_what_is_live_and_which_one_asks(api, alice, bob):
    ended, here, _there = sign_in(alice), sign_in(alice), sign_in(alice, device="laptop")
    sign_in(bob)
    api().post(LOGOUT, {"refresh": ended.refresh})
    found = api(here.access).get(SESSIONS).json()["results"]

    assert [session["device"] for session in found] == ["laptop", ""]
    assert [session["is_current"] for session in found] == [False, True]
    assert found[1]["ip"] == "10.1.2.3"


def test_a_session_is_ended_from_another_one(api, alice, committing):
    here, there = sign_in(alice), sign_in(alice)
    assert api(there.access).get(ME).status_code == 200
    with committing():
        answer = api(here.access).delete(f"{SESSIONS}/{caller_for_token(there.access).session_id}")

    assert answer.status_code == 204
    assert api(there.access).get(ME).status_code == 401


def test_nobody_ends_somebody_elses(api, alice, bob):
    theirs = caller_for_token(sign_in(bob).access).session_id

    assert api(alice).delete(f"{SESSIONS}/{theirs}").status_code == 404
    with pytest.raises(NotFound):
        sessions.revoke_session(session_id=theirs, user_id=alice.pk, by=alice)


# Passwords -------------------------------------------------------------------------------------------------------

NEW = "another good password"


def test_changing_the_password_ends_every_other_session_and_no_key(api, client, alice, committing):
    here, there, key = sign_in(alice), sign_in(alice), api_key(alice)
    assert api(there.access).get(ME).status_code == 200
    body = {"current_password": PASSWORD, "new_password": NEW}
    with committing():
        assert api(here.access).post(PASSWORD_PATH, body).status_code == 204

    assert [api(one).get(ME).status_code for one in (here.access, there.access, key)] == [200, 401, 200]
    alice.refresh_from_db()
    assert alice.check_password(NEW)
    assert alice.password_changed_at is not None
    assert AuditEvent.objects.get(action="user.password_changed").metadata == {"sessions_ended": 1, "keys_revoked": 0}


def test_changing_the_password_ends_the_keys_if_asked(api, alice, committing):
    key = api_key(alice)
    assert api(key).get(ME).status_code == 200
    with committing():
        api(alice).post(PASSWORD_PATH, {"current_password": PASSWORD, "new_password": NEW, "revoke_api_keys": True})

    assert api(key).get(ME).status_code == 401


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"current_password": "wrong", "new_password": NEW}, "current_password", "wrong_password"),
        ({"current_password": PASSWORD, "new_password": "short"}, "new_password", "weak_password"),
        ({"current_password": PASSWORD, "new_password": "x" * 1_000_000}, "new_password", "max_length"),
        ({"current_password": PASSWORD}, "new_password", "required"),
    ],
)
def test_a_password_is_not_changed_to_or_by_nonsense(api, alice, body, param, code):
    answer = api(alice).post(PASSWORD_PATH, body)

    assert answer.status_code == 400
    assert (answer.json()["error"]["param"], answer.json()["error"]["code"]) == (param, code)
    alice.refresh_from_db()
    assert alice.check_password(PASSWORD)


def test_a_password_that_an_operator_sets_ends_all_sessions(alice, olga, committing):
    pair = sign_in(alice)
    with committing():
        services.set_password(user_id=alice.pk, password=NEW, by=olga)

    with pytest.raises(NotAuthenticated):
        caller_for_token(pair.access)
