"""Encrypted columns: readable in Python, unreadable in the database."""

import pytest
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured
from django.db import connection

from inference.models import Provider

SECRET = "sk-a-very-secret-key"


def raw_column():
    with connection.cursor() as cursor:
        cursor.execute("SELECT api_key FROM inference_provider")
        return cursor.fetchone()[0]


@pytest.fixture
def provider(db):
    return Provider.objects.create(name="away", base_url="https://away.example/v1", api_key=SECRET)


def test_the_column_is_unreadable_and_the_field_is_not(provider):
    provider.refresh_from_db()

    assert provider.api_key == SECRET
    assert SECRET not in raw_column()
    assert raw_column().startswith("gAAAA")


def test_the_same_text_is_never_stored_the_same(provider):
    first = raw_column()
    provider.save()

    assert raw_column() != first


def test_empty_stays_empty(provider):
    provider.api_key = ""
    provider.save()
    provider.refresh_from_db()

    assert raw_column() == provider.api_key == ""


def test_keys_rotate_new_ones_write_and_old_ones_still_read(provider, settings):
    before = raw_column()
    settings.FIELD_ENCRYPTION_KEYS = [Fernet.generate_key().decode(), *settings.FIELD_ENCRYPTION_KEYS]
    provider.refresh_from_db()
    assert provider.api_key == SECRET

    provider.save()
    settings.FIELD_ENCRYPTION_KEYS = settings.FIELD_ENCRYPTION_KEYS[:1]
    provider.refresh_from_db()
    assert provider.api_key == SECRET
    assert raw_column() != before


def test_a_lost_key_is_named_and_the_secret_is_not(provider, settings):
    settings.FIELD_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]

    with pytest.raises(ImproperlyConfigured) as problem:
        Provider.objects.get()
    assert "Provider.api_key" in str(problem.value)
    assert "FIELD_ENCRYPTION_KEYS" in str(problem.value)


def test_a_senseless_key_says_what_is_wanted(provider, settings):
    settings.FIELD_ENCRYPTION_KEYS = ["short"]

    with pytest.raises(ImproperlyConfigured, match="32 bytes"):
        Provider.objects.get()
