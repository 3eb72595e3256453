"""Encryption at rest in every column that has it, and `manage.py rotate_keys`."""

import io
from contextlib import contextmanager

import pytest
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from accounts import rotation
from accounts.models import AuditEvent, ChannelIdentity, TotpDevice, User
from conversations.models import ChannelConfig
from inference.models import Provider
from quotas.models import WebhookEndpoint

# What is written into each encrypted column of the whole installation. Whoever adds a column adds it here.
PLAIN = {
    "accounts.user.full_name": "Alice of the Looking Glass",
    "accounts.channelidentity.username": "alice-on-discord",
    "accounts.totpdevice.secret": "3132333435363738393031323334353637383930",
    "inference.provider.api_key": "sk-of-the-provider",
    "conversations.channelconfig.credentials": "123456:bot-token-of-telegram",
    "quotas.webhookendpoint.secret": "whsec_bm93",
    "quotas.webhookendpoint.previous_secret": "whsec_YmVmb3Jl",
}


@pytest.fixture
def rows(alice):
    User.objects.filter(pk=alice.pk).update(full_name=PLAIN["accounts.user.full_name"])
    ChannelIdentity.objects.create(
        user=alice, channel_type="discord", channel_user_id="7", username=PLAIN["accounts.channelidentity.username"]
    )
    TotpDevice.objects.create(user=alice, secret=PLAIN["accounts.totpdevice.secret"])
    Provider.objects.create(
        name="away", base_url="https://away.example/v1", api_key=PLAIN["inference.provider.api_key"]
    )
    ChannelConfig.objects.filter(name="telegram").update(credentials=PLAIN["conversations.channelconfig.credentials"])
    WebhookEndpoint.objects.create(
        url="https://away.example/hooks",
        secret=PLAIN["quotas.webhookendpoint.secret"],
        previous_secret=PLAIN["quotas.webhookendpoint.previous_secret"],
        previous_expires_at=timezone.now(),
    )


@pytest.fixture
def new_key(settings):
    """A new key in front of the one that everything was written with."""

    def put_in_front():
        settings.FIELD_ENCRYPTION_KEYS = [Fernet.generate_key().decode(), *settings.FIELD_ENCRYPTION_KEYS]
        return settings.FIELD_ENCRYPTION_KEYS[0]

    return put_in_front


def stored(column):
    """All values of a column as PostgreSQL has them."""
    opts = column.model._meta
    with connection.cursor() as cursor:
        cursor.execute(f'SELECT "{opts.get_field(column.name).column}" FROM "{opts.db_table}"')
        return [value for (value,) in cursor.fetchall() if value]


def readable():
    return {
        str(column): column.model.objects.exclude(**{column.name: ""}).values_list(column.name, flat=True).get()
        for column in rotation.encrypted_columns()
    }


def whole_dump():
    """Every table, as text."""
    with connection.cursor() as cursor:
        texts = []
        for table in connection.introspection.table_names():
            cursor.execute(f'SELECT t::text FROM "{table}" AS t')
            texts += [text for (text,) in cursor.fetchall()]
    return "\n".join(texts)


def rotate_keys(*arguments):
    out, problems = io.StringIO(), io.StringIO()
    call_command("rotate_keys", *arguments, stdout=out, stderr=problems)
    return out.getvalue()


def test_these_are_all_encrypted_columns():
    assert {str(column) for column in rotation.encrypted_columns()} == set(PLAIN)


def test_a_dump_of_all_tables_holds_none_of_the_plain_texts(rows):
    dump = whole_dump()

    assert "alice@example.com" in dump
    assert [text for text in PLAIN.values() if text in dump] == []
    assert readable() == PLAIN


def test_after_a_rotation_the_old_key_is_not_needed_any_more(rows, new_key, settings):
    new = new_key()

    said = rotate_keys()

    for column in PLAIN:
        assert f"{column}: 1 encrypted anew, 0 under the newest key before, 0 unreadable" in said
    settings.FIELD_ENCRYPTION_KEYS = [new]
    assert readable() == PLAIN
    event = AuditEvent.objects.get(action="encryption.keys_rotated")
    assert (event.actor_id, event.metadata) == (None, {"rotated": len(PLAIN), "unreadable": 0})


def test_without_it_the_old_key_is_needed(rows, new_key, settings):
    settings.FIELD_ENCRYPTION_KEYS = [new_key()]

    with pytest.raises(ImproperlyConfigured):
        readable()


def test_the_second_time_nothing_is_written(rows, new_key):
    new_key()
    rotate_keys()
    before = [stored(column) for column in rotation.encrypted_columns()]

    said = rotate_keys()

    assert "accounts.user.full_name: 0 encrypted anew, 1 under the newest key before" in said
    assert [stored(column) for column in rotation.encrypted_columns()] == before
    assert AuditEvent.objects.filter(action="encryption.keys_rotated").count() == 1


def test_a_dry_run_counts_and_changes_nothing(rows, new_key):
    new_key()
    before = [stored(column) for column in rotation.encrypted_columns()]

    assert "inference.provider.api_key: 1 would be encrypted anew" in rotate_keys("--dry-run")

    assert [stored(column) for column in rotation.encrypted_columns()] == before
    assert not AuditEvent.objects.exists()


def test_more_rows_than_a_batch_are_all_rotated(db, new_key, monkeypatch, settings):
    monkeypatch.setattr(rotation, "BATCH", 3)
    User.objects.bulk_create(User(email=f"user{n}@example.com", full_name=f"Number {n}") for n in range(10))
    new = new_key()

    done = rotation.rotate()

    settings.FIELD_ENCRYPTION_KEYS = [new]
    assert sum(done.rotated.values()) == 10
    assert sorted(user.full_name for user in User.objects.all()) == sorted(f"Number {n}" for n in range(10))


def test_a_run_that_was_stopped_is_continued(db, new_key):
    User.objects.bulk_create(User(email=f"user{n}@example.com", full_name="x") for n in range(5))
    new_key()
    seen = []

    def stop_after_two(values):
        seen.append(values)
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rotation.rotate(progress=stop_after_two)

    done = rotation.rotate()
    events = AuditEvent.objects.filter(action="encryption.keys_rotated").order_by("id")
    assert (sum(done.rotated.values()), sum(done.current.values())) == (3, 2)
    assert [event.metadata["rotated"] for event in events] == [2, 3]


@contextmanager
def changed_before_the_update(monkeypatch, change):
    """Somebody changes the row between the read and the write of the first value."""
    rotate_value = rotation._rotate_value
    changes = iter([change])

    def slowly(*arguments, **options):
        next(changes, lambda: None)()
        rotate_value(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(rotation, "_rotate_value", slowly)
        yield


@pytest.mark.parametrize("with_the_old_key", [True, False])
def test_what_changes_meanwhile_is_kept(alice, new_key, settings, monkeypatch, with_the_old_key):
    """Also when a process that was not restarted yet still writes with the old key."""
    User.objects.filter(pk=alice.pk).update(full_name="Before")
    old = settings.FIELD_ENCRYPTION_KEYS
    new = new_key()
    both = settings.FIELD_ENCRYPTION_KEYS

    def rename():
        settings.FIELD_ENCRYPTION_KEYS = old if with_the_old_key else both
        User.objects.filter(pk=alice.pk).update(full_name="After")
        settings.FIELD_ENCRYPTION_KEYS = both

    with changed_before_the_update(monkeypatch, rename):
        rotation.rotate()

    settings.FIELD_ENCRYPTION_KEYS = [new]
    alice.refresh_from_db()
    assert alice.full_name == "After"


@pytest.mark.parametrize("gone", [lambda alice: alice.delete(), lambda alice: User.objects.update(full_name="")])
def test_what_goes_meanwhile_stays_gone(alice, new_key, monkeypatch, gone):
    User.objects.filter(pk=alice.pk).update(full_name="Before")
    new_key()

    with changed_before_the_update(monkeypatch, lambda: gone(alice)):
        done = rotation.rotate()

    assert sum(done.rotated.values()) == sum(done.current.values()) == len(done.unreadable) == 0
    assert not User.objects.exclude(full_name="").exists()


def test_a_value_of_a_lost_key_is_named_and_the_others_are_rotated(rows, alice, bob, settings, new_key):
    kept = settings.FIELD_ENCRYPTION_KEYS
    settings.FIELD_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    User.objects.filter(pk=bob.pk).update(full_name="Bob the Builder")
    settings.FIELD_ENCRYPTION_KEYS = kept
    new_key()
    problems = io.StringIO()

    with pytest.raises(CommandError, match="1 values cannot be read") as failure:
        call_command("rotate_keys", stdout=io.StringIO(), stderr=problems)

    assert failure.value.returncode == 1
    assert f"accounts.user.full_name of {bob.pk}: no key of FIELD_ENCRYPTION_KEYS" in problems.getvalue()
    assert "Bob" not in problems.getvalue()
    assert str(alice.pk) not in problems.getvalue()
    event = AuditEvent.objects.get(action="encryption.keys_rotated")
    assert event.metadata == {"rotated": len(PLAIN), "unreadable": 1}


def test_a_senseless_key_says_what_is_wanted(rows, settings):
    settings.FIELD_ENCRYPTION_KEYS = ["short", *settings.FIELD_ENCRYPTION_KEYS]

    with pytest.raises(ImproperlyConfigured, match="32 bytes"):
        rotate_keys()


@pytest.mark.parametrize("text", ["Alice", "gAAAA", "gAAAAABé", "c2hvcnQ=", "a" * 200])
def test_plain_text_is_reported_and_left_alone(alice, new_key, text):
    with connection.cursor() as cursor:
        cursor.execute("UPDATE accounts_user SET full_name = %s", [text])
    new_key()
    problems = io.StringIO()

    with pytest.raises(CommandError):
        call_command("rotate_keys", stdout=io.StringIO(), stderr=problems)

    assert problems.getvalue() == f"accounts.user.full_name of {alice.pk}: plain text\n"
    assert stored(rotation.Column(User, "full_name")) == [text]
