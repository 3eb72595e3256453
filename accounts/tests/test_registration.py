"""POST /api/v1/users."""

import pytest
import time_machine

from accounts.models import AuditEvent, User
from accounts.tests.factories import UserFactory

PATH = "/api/v1/users"
PASSWORD = "a long and odd password"

pytestmark = pytest.mark.django_db


def test_anybody_can_register(api):
    answer = api().post(PATH, {"email": "Carol@Example.com", "password": PASSWORD, "full_name": "Carol"})

    assert answer.status_code == 201
    user = User.objects.get(email="carol@example.com")
    body = answer.json()
    assert body["id"] == str(user.pk)
    assert body["email"] == "carol@example.com"
    assert body["full_name"] == "Carol"
    assert user.check_password(PASSWORD)
    assert PASSWORD not in answer.content.decode()
    assert "password" not in body


def test_registration_gives_no_rights(api):
    asked = {"email": "carol@example.com", "password": PASSWORD, "is_staff": True, "is_superuser": True}
    answer = api().post(PATH, asked | {"is_verified": True, "id": "00000000-0000-0000-0000-000000000000"})

    assert answer.status_code == 201
    user = User.objects.get(email="carol@example.com")
    assert (user.is_staff, user.is_superuser, user.is_verified) == (False, False, False)


def test_registration_is_audited_without_the_password(api):
    api().post(PATH, {"email": "carol@example.com", "password": PASSWORD})

    event = AuditEvent.objects.get(action="user.registered")
    assert event.actor_email == "carol@example.com"
    assert event.target_id == str(User.objects.get().pk)
    assert PASSWORD not in str(event.metadata)


def test_an_address_is_taken_in_any_case(api):
    UserFactory(email="carol@example.com")

    answer = api().post(PATH, {"email": "CAROL@example.COM", "password": PASSWORD})

    assert answer.status_code == 409
    error = answer.json()["error"]
    assert (error["type"], error["code"], error["param"]) == ("conflict_error", "email_taken", "email")
    assert User.objects.count() == 1
    assert not AuditEvent.objects.exists()


@pytest.mark.parametrize("password", ["short", "1234567890123", "password123", "carol@example.com"])
def test_a_weak_password_is_refused(api, password):
    answer = api().post(PATH, {"email": "carol@example.com", "password": password})

    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == ("weak_password", "password")
    assert not User.objects.exists()


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"password": PASSWORD}, "email", "required"),
        ({"email": "carol@example.com"}, "password", "required"),
        ({"email": "carol", "password": PASSWORD}, "email", "invalid"),
        ({"email": "", "password": PASSWORD}, "email", "blank"),
        ({"email": "\u0430lice@example.com", "password": PASSWORD}, "email", "invalid"),
        ({"email": None, "password": PASSWORD}, "email", "null"),
        ({"email": ["carol@example.com"], "password": PASSWORD}, "email", "invalid"),
        ({"email": "carol@example.com", "password": {"a": 1}}, "password", "invalid"),
        ({"email": "c" * 250 + "@example.com", "password": PASSWORD}, "email", "max_length"),
        ({"email": "carol@example.com", "password": "x" * 2000}, "password", "max_length"),
        ({"email": "carol@example.com", "password": PASSWORD, "full_name": "x" * 256}, "full_name", "max_length"),
    ],
)
def test_malformed_registration_names_the_field(api, body, param, code):
    answer = api().post(PATH, body)

    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert code in {found["code"] for found in error["errors"] if found["param"] == param}
    assert not User.objects.exists()


@time_machine.travel("2030-01-01T12:00Z", tick=False)
def test_too_many_registrations_from_one_address_are_turned_away(api, settings):
    settings.RATELIMIT_REGISTRATION = "2/m"
    statuses = [api().post(PATH, {"email": "nonsense"}).status_code for _ in range(3)]
    answer = api().post(PATH, {"email": "carol@example.com", "password": PASSWORD})

    assert statuses == [400, 400, 429]
    assert answer.status_code == 429
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    assert not User.objects.exists()


def test_who_was_turned_away_is_let_in_when_it_was_said(api, settings):
    settings.RATELIMIT_REGISTRATION = "1/m"
    with time_machine.travel("2030-01-01T12:00:17Z", tick=False) as clock:
        statuses = [api().post(PATH, {"email": "nonsense"}).status_code for _ in range(2)]
        seconds = int(api().post(PATH, {"email": "nonsense"})["Retry-After"])
        for pause in (seconds - 1, 1):
            clock.shift(pause)
            statuses.append(api().post(PATH, {"email": "nonsense"}).status_code)

    assert statuses == [400, 429, 429, 400]
    assert 0 < seconds <= 60


@time_machine.travel("2030-01-01T12:00Z", tick=False)
def test_another_address_is_not_held_up_by_the_first(api, settings):
    settings.RATELIMIT_REGISTRATION = "1/m"
    api().post(PATH, {"email": "nonsense"})

    answer = api().post(PATH, {"email": "carol@example.com", "password": PASSWORD}, REMOTE_ADDR="10.0.0.9")

    assert answer.status_code == 201


@time_machine.travel("2030-01-01T12:00Z", tick=False)
def test_a_forged_forwarded_header_does_not_evade_the_limit(api, settings):
    settings.RATELIMIT_REGISTRATION = "1/m"
    api().post(PATH, {"email": "nonsense"}, headers={"X-Forwarded-For": "10.0.0.1"})

    assert api().post(PATH, {"email": "nonsense"}, headers={"X-Forwarded-For": "10.0.0.2"}).status_code == 429


def test_registration_works_while_redis_is_away(api, redis_away):
    answer = api().post(PATH, {"email": "carol@example.com", "password": PASSWORD})

    assert answer.status_code == 201


@pytest.mark.parametrize("email", ["alice@ex\u0430mple.com", "alice@\u212aelvin.example.com"])
def test_an_address_that_only_looks_like_another_is_refused(api, email):
    answer = api().post(PATH, {"email": email, "password": PASSWORD})

    assert answer.status_code == 400
    assert (answer.json()["error"]["param"], answer.json()["error"]["code"]) == ("email", "invalid_email")
    assert not User.objects.exists()
