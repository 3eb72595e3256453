"""Whatever points at a user says what becomes of it when the user is exported, merged or erased."""

from collections import Counter

import pytest
from django.apps import apps
from django.db import connection

from accounts.belongings import Erase, all_belongings
from accounts.models import AuditEvent, User

PERSONAL = [
    model
    for model in apps.get_models()
    if any(field.related_model is User and (field.many_to_one or field.one_to_one) for field in model._meta.fields)
]
# Written only under the lock of the user's row: by `provision`, and by the statement that holds.
LOCKED_BEFORE = {"quotas_subscription", "quotas_quota", "quotas_reservation", "inference_request"}
SECRETS = {"password", "key_hash", "previous_key_hash", "code_hash", "secret", "refresh_jti", "previous_jti"}


def test_everything_that_points_at_a_user_is_declared_once():
    declared = Counter(belonging.model for belonging in all_belongings())

    assert len(PERSONAL) > 12
    assert set(declared) == {*PERSONAL, AuditEvent}
    assert set(declared.values()) == {1}


def test_the_highest_application_comes_first_and_the_user_last():
    belongings = all_belongings()
    labels = [belonging.model._meta.app_label for belonging in belongings]

    assert list(dict.fromkeys(labels)) == ["conversations", "prompts", "inference", "quotas", "accounts", "admin"]
    assert belongings[-1].model is User


def test_locks_are_taken_in_the_order_of_the_road():
    locked = [belonging.model.__name__ for belonging in all_belongings() if belonging.lock]

    assert locked == ["Request", "Reservation", "Quota", "IdempotencyRecord"]


@pytest.mark.parametrize("belonging", all_belongings(), ids=lambda belonging: belonging.model.__name__)
def test_what_is_exported_can_be_paged_and_holds_no_secret(belonging):
    if not belonging.section:
        assert belonging.model._meta.label == "admin.LogEntry"
        return
    assert belonging.fields[0] == "id"
    assert not SECRETS & {*belonging.fields, *(belonging.part.fields if belonging.part else ())}


def test_only_money_and_the_user_itself_are_kept_as_they_are():
    assert {belonging.model.__name__ for belonging in all_belongings() if belonging.erase is Erase.KEEP} == {
        "Quota",
        "User",
    }


@pytest.mark.django_db
def test_every_table_of_a_user_follows_merges():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT c.relname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid "
            "JOIN pg_proc p ON p.oid = t.tgfoid WHERE p.proname = 'accounts_follow_merge' AND t.tgenabled = 'O'"
        )
        following = {name for (name,) in cursor.fetchall()}

    assert following == {model._meta.db_table for model in PERSONAL if model is not User} - LOCKED_BEFORE
