"""The way into the admin with a second factor, and every way around it."""

import re
from datetime import timedelta

import pytest
import time_machine
from django.test import Client
from django.utils import timezone

from accounts import services, two_factor
from accounts.models import AuditEvent, TotpDevice, User
from accounts.tests.factories import PASSWORD, UserFactory
from accounts.tests.test_two_factor import code_of, set_up, wrong_code
from tests.admin import act, messages, page

LOGIN, CODE, INDEX = "/admin/login/", "/admin/login/code/", "/admin/"
OWN, SET_UP = "/admin/two-factor/", "/admin/two-factor/set-up/"
RENEW, OFF = "/admin/two-factor/recovery-codes/", "/admin/two-factor/switch-off/"
OTHERS = (INDEX, "/admin/accounts/user/", "/admin/search/?s=a", OWN, RENEW, OFF)

pytestmark = pytest.mark.django_db


@pytest.fixture
def device(olga):
    return set_up(olga)[0]


def give_password(client, path=LOGIN, password=PASSWORD, email="Olga@example.com "):
    return client.post(path, {"username": email, "password": password})


def give_code(client, code):
    return client.post(CODE, {"code": code})


def is_in(client):
    return client.get(INDEX).status_code == 200


def signed_in(device):
    client = Client()
    give_password(client)
    give_code(client, code_of(device))
    assert is_in(client)
    return client


def events(action):
    return list(AuditEvent.objects.filter(action=action))


# Without an app -------------------------------------------------------------------------------------------------------


def test_who_has_no_app_needs_the_password_alone(client, olga):
    answer = give_password(client, f"{LOGIN}?next=/admin/accounts/user/")

    assert answer["Location"] == "/admin/accounts/user/"
    assert is_in(client)
    (event,) = events("auth.signed_in")
    assert (event.actor_id, event.ip, event.metadata) == (olga.pk, "127.0.0.1", {"how": "password"})
    assert client.get(LOGIN)["Location"] == INDEX


@pytest.mark.parametrize("change", [{"is_staff": False}, {"is_active": False}])
def test_who_is_not_staff_learns_nothing(client, olga, change):
    User.objects.update(**change)

    answer = give_password(client)

    assert "The e-mail address or the password is wrong." in answer.content.decode()
    assert not is_in(client)
    assert [event.target_id for event in events("auth.sign_in_failed")] == [str(olga.pk)]


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example/", "javascript:alert(1)"])
def test_signing_in_leads_to_no_other_site(olga, device, target):
    client = Client()
    give_password(client, f"{LOGIN}?next={target}")

    assert give_code(client, code_of(device))["Location"] == INDEX


# The two steps --------------------------------------------------------------------------------------------------------


def test_the_password_and_then_a_code_let_in(client, olga, device):
    answer = give_password(client, f"{LOGIN}?next=/admin/accounts/user/")
    assert answer["Location"] == CODE
    assert not is_in(client)
    assert olga.email in client.get(CODE).content.decode()

    answer = give_code(client, code_of(device))

    assert answer["Location"] == "/admin/accounts/user/"
    assert is_in(client)
    assert [event.metadata for event in events("auth.signed_in")] == [{"how": "authenticator_app"}]


def test_a_recovery_code_does_too_and_the_page_counts_them(client, olga):
    _device, codes = set_up(olga)
    give_password(client)

    answer = give_code(client, codes[0])

    assert messages(answer, client) == ["That recovery code is used up. You have 9 left."]
    assert [event.metadata for event in events("auth.signed_in")] == [{"how": "recovery_code"}]


def test_after_the_first_step_nothing_is_open(client, device):
    give_password(client)

    for path in (*OTHERS, SET_UP, "/admin/password_change/", page(User, "add")):
        for answer in (client.get(path), client.post(path)):
            assert answer["Location"].startswith(LOGIN), path
    assert "_auth_user_id" not in client.session


def test_the_second_step_alone_leads_back_to_the_first(client, device):
    for answer in (client.get(CODE), give_code(client, code_of(device))):
        assert answer["Location"] == LOGIN
    assert not is_in(client)


def test_a_wrong_code_is_explained_and_the_next_may_be_right(client, device):
    give_password(client)

    answer = give_code(client, wrong_code(device))

    assert (answer.status_code, is_in(client)) == (200, False)
    assert "The code is wrong, or was used before." in answer.content.decode()
    assert give_code(client, "").status_code == 200
    give_code(client, code_of(device))
    assert is_in(client)


def test_a_code_lets_in_once(device):
    code = code_of(device)
    for expected in (True, False):
        client = Client()
        give_password(client)
        give_code(client, code)
        assert is_in(client) is expected


def test_guessing_codes_is_stopped(client, device):
    give_password(client)
    for _ in range(5):
        assert give_code(client, wrong_code(device)).status_code == 200

    answer = give_code(client, code_of(device))

    assert answer.status_code == 429
    assert 25 <= int(answer["Retry-After"]) <= 30
    assert "too many wrong attempts" in answer.content.decode()
    assert not is_in(client)


def test_the_code_must_follow_within_five_minutes(client, device):
    give_password(client)

    with time_machine.travel(timezone.now() + timedelta(seconds=301), tick=False):
        answer = give_code(client, code_of(device))

        assert answer["Location"] == LOGIN
        assert messages(answer, client) == ["That took too long. Sign in again, please."]
        assert not is_in(client)


@pytest.mark.parametrize(
    "change",
    [
        lambda user: services.set_password(user_id=user.pk, password="another horse, another battery", by=user),
        lambda user: User.objects.update(signed_out_at=timezone.now()),
        lambda user: User.objects.update(is_active=False),
        lambda user: User.objects.update(is_staff=False),
        lambda user: two_factor.disable(user=user, by=user),
    ],
    ids=["new password", "signed out everywhere", "shut out", "no longer staff", "reset"],
)
def test_what_happens_between_the_steps_ends_them(client, olga, device, change):
    give_password(client)
    change(olga)

    assert give_code(client, code_of(device))["Location"] == LOGIN
    assert not is_in(client)


def test_each_step_changes_the_key_of_the_session(client, device):
    client.get(LOGIN)
    planted = client.session
    planted["theirs"] = "planted"
    planted.save()
    client.cookies["sessionid"] = planted.session_key

    give_password(client)
    between = client.session.session_key
    give_code(client, code_of(device))

    assert len({planted.session_key, between, client.session.session_key}) == 3
    assert "theirs" not in client.session
    for old in (planted.session_key, between):
        other = Client()
        other.cookies["sessionid"] = old
        assert not is_in(other)
        assert give_code(other, code_of(device, steps=1))["Location"] == LOGIN


def test_the_first_step_ends_whatever_session_there_was(client, device):
    client.force_login(UserFactory(is_staff=True))
    assert is_in(client)

    give_password(client)

    assert not is_in(client)


# Sessions that know no second factor ----------------------------------------------------------------------------------


def test_a_session_from_before_the_app_ends(olga):
    early = Client()
    give_password(early)
    assert is_in(early)
    set_up(olga)

    for path in (*OTHERS, SET_UP, "/admin/password_change/"):
        assert early.get(path)["Location"].startswith(LOGIN), path
    answer = early.get(LOGIN)

    assert "Two-factor sign-in is on for you." in answer.content.decode()
    assert "_auth_user_id" not in early.session


def test_a_session_of_an_earlier_app_ends(olga, device):
    client = signed_in(device)
    two_factor.disable(user=olga, by=olga)
    set_up(olga)

    assert not is_in(client)


def test_the_device_of_somebody_else_verifies_nothing(olga, device):
    other = UserFactory(is_staff=True)
    theirs = two_factor.begin_setup(user=other)
    two_factor.confirm_setup(user=other, code=code_of(theirs), by=other)
    client = Client()
    client.force_login(olga)
    session = client.session
    session["two_factor_device"] = str(theirs.pk)
    session.save()

    assert not is_in(client)


def test_signing_out_works_at_every_stage(olga, device):
    early = Client()
    early.force_login(olga)

    assert early.post("/admin/logout/").status_code == 200
    assert "_auth_user_id" not in early.session


# Where it is required -------------------------------------------------------------------------------------------------


@pytest.fixture
def required(settings):
    settings.REQUIRE_OPERATOR_2FA = True


def test_who_has_no_app_reaches_nothing_but_its_setting_up(client, olga, required):
    answer = client.get(give_password(client)["Location"], follow=True)

    assert answer.redirect_chain[-1][0] == SET_UP
    assert re.search(r"<svg[^>]*>.*<path", answer.content.decode(), re.DOTALL)
    for path in (*OTHERS, page(User, "add")):
        assert client.get(path)["Location"].startswith(LOGIN), path
        assert client.get(LOGIN)["Location"] == SET_UP
    assert client.get("/admin/password_change/").status_code == 200
    assert client.get("/admin/password_change/done/").status_code == 200


def test_setting_it_up_opens_the_admin(client, olga, required):
    give_password(client)
    client.get(SET_UP)
    before = client.session.session_key
    device = TotpDevice.objects.get()

    wrong = client.post(SET_UP, {"code": wrong_code(device)})
    assert "This is not the code that the app shows now." in wrong.content.decode()
    assert two_factor.typed_secret(device=device) in wrong.content.decode()
    shown = client.post(SET_UP, {"code": code_of(device)})

    assert len(re.findall(r"<li>[0-9a-z]{4}(?:-[0-9a-z]{4}){3}</li>", shown.content.decode())) == 10
    assert is_in(client)
    assert client.session.session_key != before
    assert client.get(SET_UP)["Location"] == OWN
    assert client.post(SET_UP, {"code": code_of(device)})["Location"] == OWN


def test_it_cannot_be_switched_off(olga, device, required):
    client = signed_in(device)
    assert "off-form" not in client.get(OWN).content.decode()

    answer = client.post(OFF, {"off-password": PASSWORD, "off-code": code_of(device, steps=1)})

    assert messages(answer, client) == ["This installation requires two-factor sign-in of operators."]
    assert TotpDevice.objects.exists()


# One's own page -------------------------------------------------------------------------------------------------------


def test_it_can_be_set_up_by_choice(client, olga):
    give_password(client)
    assert OWN in client.get(INDEX).content.decode()
    assert SET_UP in client.get(OWN).content.decode()
    first = client.get(SET_UP).context["secret"]
    second = client.get(SET_UP).context["secret"]
    assert first != second

    client.post(SET_UP, {"code": code_of(TotpDevice.objects.get())})

    assert is_in(client)
    assert '<strong class="text-important">10</strong>' in client.get(OWN).content.decode()
    (event,) = events("two_factor.enabled")
    assert (event.actor_id, event.ip) == (olga.pk, "127.0.0.1")


def test_recovery_codes_are_renewed_for_a_code(olga):
    device, old = set_up(olga)
    client = signed_in(device)
    assert client.get(RENEW)["Location"] == OWN

    refused = client.post(RENEW, {"codes-code": wrong_code(device)})
    assert "The code is wrong" in refused.content.decode()
    assert client.post(RENEW, {}).status_code == 200
    shown = client.post(RENEW, {"codes-code": old[0]})

    assert len(re.findall(r"<li>[0-9a-z-]{19}</li>", shown.content.decode())) == 10
    assert not [code for code in old if code in shown.content.decode()]


@pytest.mark.parametrize("password", ["wrong", ""])
def test_switching_off_takes_the_password(olga, device, password):
    client = signed_in(device)

    client.post(OFF, {"off-password": password, "off-code": code_of(device, steps=1)})

    assert TotpDevice.objects.exists()


def test_switching_off_takes_a_code(olga, device):
    client = signed_in(device)
    assert client.get(OFF)["Location"] == OWN

    client.post(OFF, {"off-password": PASSWORD, "off-code": wrong_code(device)})
    assert TotpDevice.objects.exists()
    client.post(OFF, {"off-password": PASSWORD, "off-code": code_of(device, steps=1)})

    assert not TotpDevice.objects.exists()
    assert is_in(client)
    give_password(other := Client())
    assert is_in(other)


def test_guessing_in_a_stolen_session_is_stopped(olga, device):
    client = signed_in(device)
    for _ in range(5):
        client.post(RENEW, {"codes-code": wrong_code(device)})

    assert client.post(RENEW, {"codes-code": code_of(device, steps=1)}).status_code == 429


# Somebody else's ------------------------------------------------------------------------------------------------------


def test_a_superuser_resets_it_for_who_has_lost_everything(client, olga):
    other = UserFactory(is_staff=True)
    client.force_login(olga)
    assert "reset_two_factor" not in client.get(page(other)).content.decode()
    set_up(other)
    assert "reset_two_factor" in client.get(page(other)).content.decode()

    act(client, other, "reset_two_factor")

    assert not TotpDevice.objects.exists()
    (event,) = events("two_factor.disabled")
    assert (event.actor_id, event.target_id) == (olga.pk, str(other.pk))


def test_nobody_resets_their_own_there(olga, device):
    client = signed_in(device)

    assert "reset_two_factor" not in client.get(page(olga)).content.decode()
    assert client.post(page(olga, "reset_two_factor"), {"_form_submitted": "on"}).status_code == 403
    assert TotpDevice.objects.exists()


def test_who_is_no_superuser_resets_nothing(client, olga, device):
    client.force_login(UserFactory(is_staff=True))

    assert client.post(page(olga, "reset_two_factor"), {"_form_submitted": "on"}).status_code == 403
    assert TotpDevice.objects.exists()
