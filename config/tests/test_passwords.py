"""Which passwords are taken, and that imported hashes sign in and are made anew."""

import bcrypt
import pytest
from django.contrib.auth import hashers as django
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ImproperlyConfigured, ValidationError

from accounts.models import User
from accounts.passwords import LONGEST, PlainBCryptHasher
from accounts.tests.factories import PASSWORD, UserFactory
from config import passwords
from tests.admin import act

TOKEN = "/api/v1/auth/token"
NAMES = ("similarity", "length", "common", "numeric")


@pytest.fixture(autouse=True)
def _real_hashers(_clean_start, settings):
    settings.PASSWORD_HASHERS = passwords.hashers()


def plain_bcrypt(password):
    return f"bcrypt${bcrypt.hashpw(password.encode()[:72], bcrypt.gensalt(4)).decode()}"


# As other programs made them, with less work than is asked for today.
IMPORTED = {
    "bcrypt": plain_bcrypt,
    "bcrypt_sha256": lambda password: django.BCryptSHA256PasswordHasher().encode(password, bcrypt.gensalt(4)),
    "pbkdf2_sha256": lambda password: django.PBKDF2PasswordHasher().encode(password, "salt", iterations=1000),
    "pbkdf2_sha1": lambda password: django.PBKDF2SHA1PasswordHasher().encode(password, "salt", iterations=1000),
    "scrypt": lambda password: django.ScryptPasswordHasher().encode(password, "salt", n=2**4),
}


@pytest.mark.parametrize("algorithm", IMPORTED)
def test_an_imported_hash_signs_in_and_is_made_anew(api, alice, algorithm):
    imported = IMPORTED[algorithm](PASSWORD)
    assert imported.startswith(f"{algorithm}$")
    User.objects.filter(pk=alice.pk).update(password=imported)

    wrong = api().post(TOKEN, {"email": alice.email, "password": "wrong"})
    alice.refresh_from_db()
    assert (wrong.status_code, alice.password) == (401, imported)

    assert api().post(TOKEN, {"email": alice.email, "password": PASSWORD}).status_code == 200
    alice.refresh_from_db()
    assert alice.password.startswith("bcrypt_sha256$$2b$12$")
    assert api().post(TOKEN, {"email": alice.email, "password": PASSWORD}).status_code == 200
    upgraded = alice.password
    alice.refresh_from_db()
    assert alice.password == upgraded


def test_a_long_password_of_a_plain_bcrypt_hash_signs_in_too(api, alice):
    long = "é" * 60
    User.objects.filter(pk=alice.pk).update(password=plain_bcrypt(long))

    assert api().post(TOKEN, {"email": alice.email, "password": "é" * 30}).status_code == 401
    assert api().post(TOKEN, {"email": alice.email, "password": long}).status_code == 200
    alice.refresh_from_db()
    # The new hash is of all of it.
    assert not alice.check_password("é" * 36)


def test_a_plain_bcrypt_hash_can_be_made(settings):
    hasher = PlainBCryptHasher()
    hasher.rounds = 4

    assert hasher.verify(PASSWORD, hasher.encode(PASSWORD, hasher.salt()))


def test_all_hashers_can_be_loaded():
    assert django.get_hashers()[0].algorithm == "bcrypt_sha256"
    assert {hasher.algorithm for hasher in django.get_hashers()} >= set(IMPORTED)


# Validators ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "password"),
    [("similarity", "Alice Liddell"), ("length", "xq7!k"), ("common", "password123"), ("numeric", "83749274019283")],
)
def test_each_validator_refuses_what_it_is_for_and_can_be_left_out(settings, name, password):
    user = UserFactory.build(full_name="Alice Liddell")
    settings.AUTH_PASSWORD_VALIDATORS = passwords.validators([name], min_length=10)
    with pytest.raises(ValidationError):
        validate_password(password, user)

    others = [other for other in NAMES if other != name]
    settings.AUTH_PASSWORD_VALIDATORS = passwords.validators(others, min_length=10)
    validate_password(password, user)


def test_a_name_that_is_not_known_stops_the_start():
    with pytest.raises(ImproperlyConfigured) as problem:
        passwords.validators(["length", "lenght"], min_length=10)

    assert str(problem.value) == "PASSWORD_VALIDATORS knows similarity, length, common, numeric, and not 'lenght'."


def test_the_greatest_length_cannot_be_left_out(settings):
    settings.AUTH_PASSWORD_VALIDATORS = passwords.validators([], min_length=10)

    validate_password("x" * LONGEST)
    with pytest.raises(ValidationError, match="too long"):
        validate_password("x" * (LONGEST + 1))


def test_too_long_a_password_is_refused_wherever_one_is_given(api, client, olga, alice):
    too_long = "a b" * LONGEST
    client.force_login(olga)

    registering = api().post("/api/v1/users", {"email": "new@example.com", "password": too_long})
    signing_in = api().post(TOKEN, {"email": alice.email, "password": too_long})
    dialog = act(client, alice, "change_password", password=too_long)
    own = {"old_password": PASSWORD, "new_password1": too_long, "new_password2": too_long}
    changed = client.post("/admin/password_change/", own)

    for answer in (registering, signing_in):
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "password")
        assert "1024" in answer.json()["error"]["message"]
    assert "at most 1024 characters" in dialog.content.decode()
    assert "too long" in str(changed.context["form"].errors["new_password2"])
