"""POST /api/v1/auth/token and /api/v1/auth/token/refresh."""

from datetime import timedelta

import jwt
import pytest
import time_machine
from django.utils import timezone
from django_otp.oath import TOTP

from accounts import tokens, two_factor
from accounts.models import AuditEvent, Session, User
from accounts.snapshots import redis_client
from accounts.tests.credentials import access_token
from accounts.tests.factories import PASSWORD

OBTAIN = "/api/v1/auth/token"
REFRESH = "/api/v1/auth/token/refresh"
ME = "/api/v1/users/me"
NOBODY = "00000000-0000-7000-8000-000000000000"

pytestmark = pytest.mark.django_db


def refresh_token(user):
    return tokens.sign_in(user=user, ip=None, user_agent="").refresh


def assert_refused(answer, code):
    assert answer.status_code == 401
    assert answer.json()["error"]["type"] == "authentication_error"
    assert answer.json()["error"]["code"] == code
    assert answer["WWW-Authenticate"].startswith("Bearer")


def test_email_and_password_are_exchanged_for_working_tokens(api, alice):
    answer = api().post(OBTAIN, {"email": "ALICE@example.com", "password": PASSWORD})

    assert answer.status_code == 200
    assert set(answer.json()) == {"access", "refresh"}
    assert api(answer.json()["access"]).get(ME).json()["email"] == alice.email
    alice.refresh_from_db()
    assert alice.last_login is not None


@pytest.mark.parametrize(
    "body",
    [
        {"email": "alice@example.com", "password": "wrong password"},
        {"email": "nobody@example.com", "password": PASSWORD},
        {"email": "alice@example.com", "password": PASSWORD + " "},
    ],
)
def test_wrong_credentials_are_refused_and_do_not_say_which_was_wrong(api, alice, body):
    answer = api().post(OBTAIN, body)

    assert_refused(answer, "invalid_credentials")
    assert answer.json()["error"]["message"] == "The e-mail address or the password is wrong."
    assert answer.json()["error"]["param"] is None


def test_a_deactivated_user_gets_no_token(api, alice):
    User.objects.update(is_active=False)

    assert_refused(api().post(OBTAIN, {"email": alice.email, "password": PASSWORD}), "invalid_credentials")


def test_a_user_without_a_password_gets_no_token(api, alice):
    alice.set_unusable_password()
    alice.save()

    assert_refused(api().post(OBTAIN, {"email": alice.email, "password": alice.password}), "invalid_credentials")


@pytest.mark.parametrize("body", [{}, {"email": "alice@example.com"}, {"email": 3, "password": 4}, [], "text", None])
def test_malformed_credentials_are_a_bad_request(api, alice, body):
    assert api().post(OBTAIN, body, content_type="application/json").status_code == 400


@time_machine.travel("2030-01-01T12:00Z", tick=False)
def test_too_many_attempts_from_one_address_are_turned_away(api, alice, settings):
    settings.RATELIMIT_TOKEN = "2/m"
    wrong = {"email": alice.email, "password": "wrong password"}
    statuses = [api().post(OBTAIN, wrong).status_code for _ in range(2)]
    answer = api().post(OBTAIN, {"email": alice.email, "password": PASSWORD})

    assert statuses == [401, 401]
    assert answer.status_code == 429
    assert answer.json()["error"]["code"] == "rate_limit_exceeded"
    assert int(answer["Retry-After"]) > 0


def wrong_passwords(api, alice, count, **client):
    body = {"email": alice.email, "password": "wrong password"}
    return [api(**client).post(OBTAIN, body).status_code for _ in range(count)]


@time_machine.travel("2030-01-01T12:00Z", tick=False)
def test_after_too_many_wrong_passwords_even_the_right_one_is_refused_until_the_lock_ends(api, alice, settings):
    settings.RATELIMIT_TOKEN = settings.RATELIMIT_ANONYMOUS = "10000/m"
    statuses = wrong_passwords(api, alice, 1000)
    right = {"email": alice.email, "password": PASSWORD}
    locked = api().post(OBTAIN, right)

    assert set(statuses[:9]) == {401}
    assert set(statuses[10:]) == {429}
    assert (locked.status_code, locked.json()["error"]["code"]) == (429, "too_many_attempts")
    assert locked["Retry-After"] == "900"
    assert api(REMOTE_ADDR="10.9.9.9").post(OBTAIN, right).status_code == 200
    with time_machine.travel("2030-01-01T12:15:01Z", tick=False):
        assert api().post(OBTAIN, right).status_code == 200


def test_a_lock_outlives_redis(api, alice):
    wrong_passwords(api, alice, 10)
    redis_client().flushdb()

    assert api().post(OBTAIN, {"email": alice.email, "password": PASSWORD}).status_code == 429


def test_guessing_the_current_password_with_a_stolen_token_is_stopped_too(api, alice):
    thief, change = api(alice), "/api/v1/users/me/change-password"
    body = {"current_password": "wrong", "new_password": "another good password"}
    statuses = [thief.post(change, body).status_code for _ in range(12)]

    assert statuses == [400] * 10 + [429] * 2


def test_signing_in_is_audited_both_ways_without_the_password(api, alice):
    wrong_passwords(api, alice, 1, HTTP_USER_AGENT="Phone/1.0")
    api(HTTP_USER_AGENT="Phone/1.0").post(OBTAIN, {"email": alice.email, "password": PASSWORD})

    failed, signed_in = AuditEvent.objects.order_by("id")
    assert (failed.action, failed.status, failed.target_id) == ("auth.sign_in_failed", "failure", str(alice.pk))
    assert (signed_in.action, signed_in.actor_id) == ("auth.signed_in", alice.pk)
    assert signed_in.metadata == {"how": "password"}
    assert {failed.ip, signed_in.ip} == {"127.0.0.1"}
    assert {failed.user_agent, signed_in.user_agent} == {"Phone/1.0"}


# With a second factor --------------------------------------------------------------------------------------------


@pytest.fixture
def app(alice):
    """Alice's authenticator app: what it shows now."""
    device = two_factor.begin_setup(user=alice)
    with time_machine.travel(timezone.now() - timedelta(minutes=5), tick=False):
        two_factor.confirm_setup(user=alice, code=shown(device), by=alice)
    return lambda: shown(device)


def shown(device):
    totp = TOTP(bytes.fromhex(device.secret))
    totp.time = timezone.now().timestamp()
    return f"{totp.token():06d}"


def test_who_has_an_app_needs_its_code_here_too(api, alice, app):
    right = {"email": alice.email, "password": PASSWORD}

    assert_refused(api().post(OBTAIN, right), "otp_required")
    assert api().post(OBTAIN, right | {"otp": "000000"}).status_code == 401
    code = app()
    assert api().post(OBTAIN, right | {"otp": code}).status_code == 200
    assert api().post(OBTAIN, right | {"otp": code}).status_code == 401
    assert not Session.objects.exclude(user=alice).exists()


def test_where_a_second_factor_is_required_of_staff_a_password_gives_no_token(api, olga, alice, settings):
    settings.REQUIRE_OPERATOR_2FA = True
    answer = api().post(OBTAIN, {"email": olga.email, "password": PASSWORD})

    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "two_factor_required")
    assert api().post(OBTAIN, {"email": alice.email, "password": PASSWORD}).status_code == 200


def test_tokens_are_given_while_redis_is_away(api, alice, redis_away):
    assert api().post(OBTAIN, {"email": alice.email, "password": PASSWORD}).status_code == 200


def test_a_refresh_token_is_exchanged_for_a_new_pair(api, alice):
    answer = api().post(REFRESH, {"refresh": refresh_token(alice)})

    assert answer.status_code == 200
    assert api(answer.json()["access"]).get(ME).status_code == 200
    assert api().post(REFRESH, {"refresh": answer.json()["refresh"]}).status_code == 200


def test_a_deactivated_user_cannot_refresh(api, alice):
    refresh = refresh_token(alice)
    User.objects.update(is_active=False)

    assert_refused(api().post(REFRESH, {"refresh": refresh}), "session_ended")


def test_a_deleted_user_cannot_refresh(api, alice):
    refresh = refresh_token(alice)
    alice.delete()

    assert_refused(api().post(REFRESH, {"refresh": refresh}), "session_ended")


def test_an_access_token_does_not_refresh(api, alice):
    assert_refused(api().post(REFRESH, {"refresh": access_token(alice)}), "invalid_token")


@pytest.mark.parametrize("refresh", ["x", "a.b.c", "é.é.é", "..", "msk_0_0", "e30.e30.e30"])
def test_a_garbage_refresh_token_is_refused(api, refresh):
    assert_refused(api().post(REFRESH, {"refresh": refresh}), "invalid_token")


@pytest.mark.parametrize("body", [{}, {"refresh": None}, {"refresh": ""}, {"refresh": ["a"]}, {"refresh": {}}, []])
def test_a_malformed_refresh_is_a_bad_request(api, body):
    assert api().post(REFRESH, body).status_code == 400


def token(settings, session, **claims):
    now = timezone.now()
    payload = {
        "token_type": "access",
        "exp": now + timedelta(hours=1),
        "iat": now,
        "jti": "1",
        "aud": "mainstay",
        "iss": "mainstay",
        "user_id": str(session.user_id),
        "sid": str(session.pk),
    }
    return jwt.encode(payload | claims, settings.JWT_SECRET_KEY, algorithm="HS256")


@pytest.fixture
def session(alice):
    access_token(alice)
    return Session.objects.get()


def test_a_hand_made_token_of_the_right_kind_works(api, session, settings):
    """The cases below are refused for what they change, and not because they are hand-made."""
    assert api(token(settings, session)).get(ME).status_code == 200


@pytest.mark.parametrize(
    "claims",
    [
        {"user_id": "no uuid"},
        {"user_id": None},
        {"user_id": 7},
        {"user_id": {"a": 1}},
        {"sid": "no uuid"},
        {"sid": None},
        {"token_type": "refresh"},
        {"exp": 1},
        {"exp": 1e300},
        {"aud": "somebody else"},
        {"iss": "somebody else"},
    ],
)
def test_a_well_signed_token_with_a_wrong_claim_is_refused(api, session, settings, claims):
    assert_refused(api(token(settings, session, **claims)).get(ME), "invalid_token")


@pytest.mark.parametrize("claims", [{"user_id": NOBODY}, {"sid": NOBODY}])
def test_a_well_signed_token_of_a_session_that_is_not_the_users_is_refused(api, session, settings, claims):
    assert_refused(api(token(settings, session, **claims)).get(ME), "session_ended")


def test_a_token_that_is_signed_by_another_or_by_nobody_is_refused(api, session, settings):
    claims = jwt.decode(token(settings, session), options={"verify_signature": False})
    forged = jwt.encode(claims, "another secret that is long enough for it", algorithm="HS256")
    unsigned = jwt.encode(claims, None, algorithm="none")

    assert_refused(api(forged).get(ME), "invalid_token")
    assert_refused(api(unsigned).get(ME), "invalid_token")
