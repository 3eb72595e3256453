"""Audit events: who, what, to whom; and nobody changes them afterwards."""

import pytest
from django.db import IntegrityError, connection, transaction

from accounts import audit, services
from accounts.caller import Caller
from accounts.models import AuditEvent


def test_an_event_says_who_did_what_to_whom(alice, olga):
    by = Caller(user_id=olga.pk, email=olga.email, ip="10.0.0.7")

    event = audit.record("user.praised", by=by, target=alice, reason="well done")

    event.refresh_from_db()
    assert (event.actor_id, event.actor_email, event.ip) == (olga.pk, olga.email, "10.0.0.7")
    assert (event.action, event.target_type, event.target_id) == ("user.praised", "accounts.user", str(alice.pk))
    assert (event.status, event.metadata) == ("success", {"reason": "well done"})


def test_what_the_system_does_has_no_actor(db):
    event = audit.record("house.cleaned", by=None, status=AuditEvent.Status.FAILURE, ip="::1")

    event.refresh_from_db()
    assert (event.actor_id, event.actor_email, event.target_type, event.status) == (None, "", "", "failure")
    assert str(event) == "house.cleaned by nobody"


@pytest.mark.parametrize(
    "statement", ["UPDATE accounts_auditevent SET action = 'nothing'", "DELETE FROM accounts_auditevent"]
)
def test_the_database_refuses_to_change_or_delete_an_event(db, statement):
    audit.record("something", by=None)

    with pytest.raises(IntegrityError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)

    assert AuditEvent.objects.get().action == "something"


def test_an_event_outlives_what_it_speaks_of(alice):
    audit.record("user.praised", by=alice, target=alice)
    alice_id = str(alice.pk)
    alice.delete()

    event = AuditEvent.objects.get()
    assert (event.target_id, event.actor_email) == (alice_id, "alice@example.com")


@pytest.mark.parametrize("fields", [{"action": ""}, {"action": "x", "status": "maybe"}])
def test_the_database_refuses_a_senseless_event(db, fields):
    with pytest.raises(IntegrityError), transaction.atomic():
        AuditEvent.objects.create(**fields)


def test_what_is_rolled_back_leaves_no_event(alice, olga):
    with transaction.atomic():
        services.set_user_active(user=alice, is_active=False, by=olga)
        transaction.set_rollback(True)

    alice.refresh_from_db()
    assert alice.is_active
    assert not AuditEvent.objects.exists()
