"""create_user, create_api_key and generate_password_hash."""

import io
import sys
from datetime import timedelta

import pytest
from django.contrib.auth.hashers import check_password
from django.contrib.auth.models import Group
from django.core.management import CommandError, call_command
from django.db import OperationalError
from django.utils import timezone

from accounts.credentials import caller_for_key
from accounts.management import plain
from accounts.models import ApiKey, AuditEvent, User
from accounts.passwords import LONGEST

PASSWORD = "a long and odd password"


@pytest.fixture
def run(monkeypatch):
    """What a command prints on its two outputs; `typed` is what stands on standard input."""

    def call(command, *arguments, typed=""):
        out, notes = io.StringIO(), io.StringIO()
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        call_command(command, *arguments, stdout=out, stderr=notes)
        return out.getvalue().strip(), notes.getvalue()

    return call


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def prompt(monkeypatch):
    """A person at a terminal, who types these answers."""

    def answers(*typed):
        monkeypatch.setattr(sys, "stdin", Terminal())
        waiting = iter(typed)
        monkeypatch.setattr(plain, "getpass", lambda _question: next(waiting))

    return answers


# create_user ---------------------------------------------------------------------------------------------------------


def test_a_user_as_one_would_write_it_down(run, db):
    out, notes = run("create_user", "User@Example.com", PASSWORD, "Full Name")

    user = User.objects.get(email="user@example.com")
    assert user.check_password(PASSWORD)
    assert (user.full_name, user.is_verified, user.is_staff, user.is_superuser) == ("Full Name", False, False, False)
    assert out == ""
    assert "can be seen by others" in notes
    assert str(user.pk) in notes
    assert AuditEvent.objects.get().action == "user.registered"


def test_a_password_from_the_input_is_not_warned_of(run, db):
    _out, notes = run("create_user", "ada@example.com", "--password-stdin", "--verified", typed=f"{PASSWORD}\nrest\n")

    user = User.objects.get()
    assert user.check_password(PASSWORD)
    assert user.is_verified
    assert "seen by others" not in notes
    assert PASSWORD not in notes


def test_a_password_that_is_made_is_printed_once(run, db):
    out, notes = run("create_user", "ada@example.com", "--generate-password", "--full-name", "Ada")

    assert len(out) >= 20
    assert User.objects.get(full_name__isnull=False).check_password(out)
    assert out not in notes


def test_a_password_is_asked_for_twice(prompt, db):
    prompt(PASSWORD, PASSWORD)

    call_command("create_user", "ada@example.com", stderr=io.StringIO())

    assert User.objects.get().check_password(PASSWORD)


@pytest.mark.parametrize("typed", [(PASSWORD, PASSWORD + "x"), ("", "")])
def test_what_was_mistyped_makes_no_user(prompt, db, typed):
    prompt(*typed)

    with pytest.raises(CommandError):
        call_command("create_user", "ada@example.com")

    assert not User.objects.exists()


@pytest.mark.parametrize(
    ("option", "rights"),
    [
        (["--staff"], (True, False, [])),
        (["--superuser"], (True, True, [])),
        (["--role", "operator"], (True, False, ["operator"])),
        (["--role", "support"], (True, False, ["support"])),
        (["--role", "analyst"], (True, False, ["analyst"])),
    ],
)
def test_rights(run, db, option, rights):
    run("create_user", "ada@example.com", "--generate-password", *option)

    user = User.objects.get()
    assert (user.is_staff, user.is_superuser, list(user.groups.values_list("name", flat=True))) == rights
    assert AuditEvent.objects.filter(action="user.groups_changed").count() == len(rights[2])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nobody"], "not an e-mail address"),
        (["alice@example.com", PASSWORD], "taken"),
        (["ada@example.com", "short"], "too short"),
        (["ada@example.com", "ada@example.com"], "too similar"),
        (["ada@example.com", "Ada Lovelace", "Ada Lovelace"], "too similar"),
        (["ada@example.com", "x" * (LONGEST + 1)], "too long"),
        (["ada@example.com", PASSWORD, "Ada", "--full-name", "Ada"], "twice"),
        (["ada@example.com", PASSWORD, "--password-stdin"], "twice"),
        (["ada@example.com", "--password-stdin"], "no password on standard input"),
        (["ada@example.com"], "--password-stdin"),
        (["ada@example.com", PASSWORD, "--role", "king"], "invalid choice"),
    ],
)
def test_what_cannot_be_is_one_sentence(run, alice, arguments, sentence):
    with pytest.raises(CommandError, match=sentence) as failure:
        run("create_user", *arguments)

    assert failure.value.returncode == 1
    assert User.objects.count() == 1


def test_a_role_without_its_group_makes_no_user(run, db):
    Group.objects.filter(name="support").delete()

    with pytest.raises(CommandError, match="no group support"):
        run("create_user", "ada@example.com", "--generate-password", "--role", "support")

    assert not User.objects.exists()


def test_a_database_that_is_away_is_one_sentence(run, db, monkeypatch):
    def away(**_fields):
        raise OperationalError("connection refused\nby a long story")

    monkeypatch.setattr("accounts.services.register_user", away)

    with pytest.raises(CommandError, match=r"^The database cannot be reached: connection refused$"):
        run("create_user", "ada@example.com", "--generate-password")


# create_api_key ------------------------------------------------------------------------------------------------------


def test_a_key_is_printed_alone_and_works(run, alice):
    raw, notes = run("create_api_key", "Alice@example.com", "--name", "bot")

    key = ApiKey.objects.get()
    assert caller_for_key(raw).user_id == alice.pk
    assert (key.name, key.expires_at) == ("bot", None)
    assert set(key.scopes) == {"inference", "conversations", "prompts", "read"}
    assert raw not in notes
    event = AuditEvent.objects.get(action="api_key.created")
    assert (event.actor_id, event.target_id) == (None, str(key.pk))


def test_a_key_for_others_that_ends(run, alice):
    options = ("--scope", "act-as", "--scope", "read", "--scope", "read", "--expires-in-days", "7")
    run("create_api_key", "alice@example.com", "--name", "bot", *options)

    key = ApiKey.objects.get()
    assert key.scopes == ["act-as", "read"]
    assert abs(key.expires_at - timezone.now() - timedelta(days=7)) < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nobody@example.com", "--name", "bot"], "no user"),
        (["alice@example.com", "--name", " "], "needs a name"),
        (["alice@example.com", "--name", "bot", "--scope", "everything"], "invalid choice"),
        (["alice@example.com", "--name", "bot", "--expires-in-days", "0"], "takes 1 to"),
        (["alice@example.com", "--name", "bot", "--expires-in-days", "99999999999"], "takes 1 to"),
        (["alice@example.com"], "--name"),
    ],
)
def test_a_key_that_cannot_be_is_one_sentence(run, alice, arguments, sentence):
    with pytest.raises(CommandError, match=sentence):
        run("create_api_key", *arguments)

    assert not ApiKey.objects.exists()


def test_no_key_for_who_is_shut_out_and_that_of_an_alias_is_its_owners(run, alice, bob):
    User.objects.filter(pk=bob.pk).update(is_active=False, merged_into=alice)

    run("create_api_key", "bob@example.com", "--name", "bot")
    assert ApiKey.objects.get().user == alice
    User.objects.filter(pk=alice.pk).update(is_active=False)
    with pytest.raises(CommandError, match="not active"):
        run("create_api_key", "alice@example.com", "--name", "bot")


# generate_password_hash ----------------------------------------------------------------------------------------------


def test_a_hash_needs_no_database(run):
    """Without the fixture `db`, a query would fail the test."""
    assert check_password(PASSWORD, run("generate_password_hash", PASSWORD)[0])
    assert check_password(PASSWORD, run("generate_password_hash", typed=f"{PASSWORD}\r\n")[0])


def test_a_hash_of_what_is_typed(prompt):
    prompt(PASSWORD, PASSWORD)
    out = io.StringIO()

    call_command("generate_password_hash", stdout=out)

    assert check_password(PASSWORD, out.getvalue().strip())


@pytest.mark.parametrize("typed", ["", "\n", "x" * (LONGEST + 1)])
def test_no_hash_of_nothing_or_too_much(run, typed):
    with pytest.raises(CommandError):
        run("generate_password_hash", typed=typed)
