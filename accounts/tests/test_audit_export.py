"""The audit log as a file: all events of the list, and nothing that a spreadsheet would run."""

import asyncio
import csv
import io
import json
from datetime import datetime

import pytest
from django.contrib.auth.models import Group
from django.core.handlers.asgi import ASGIRequest
from django.db import connection
from django.test import AsyncRequestFactory
from django.test.utils import CaptureQueriesContext

from accounts import audit, audit_export
from accounts.downloads import download
from accounts.models import AuditEvent
from accounts.tests.factories import UserFactory
from tests.admin import messages, page

LIST = page(AuditEvent, "changelist")
CSV, JSON = page(AuditEvent, "export_csv"), page(AuditEvent, "export_json")
ODD = "quote \" comma , semicolon ; newline \n tab \t line \u2028 emoji 😀 umlaut ü </script> '=1"


@pytest.fixture
def operator(client, olga):
    client.force_login(olga)
    return client


def body(answer):
    assert answer.status_code == 200
    return b"".join(answer.streaming_content).decode()


def as_rows(text):
    return list(csv.DictReader(io.StringIO(text, newline="")))


def exported(client, address=JSON, **query):
    return json.loads(body(client.get(address, query)))


def actions(client, **query):
    return [event["action"] for event in exported(client, **query)]


def many(count, **fields):
    AuditEvent.objects.bulk_create(AuditEvent(**{"action": f"thing.{number}"} | fields) for number in range(count))


# What is in it --------------------------------------------------------------------------------------------------------


def test_both_forms_hold_every_field_of_every_event(operator, alice, olga):
    event = audit.record("thing.done", by=olga, target=alice, ip="10.1.2.3", user_agent="Browser", odd=ODD)
    audit.record("thing.failed", by=None, status=AuditEvent.Status.FAILURE)

    events = exported(operator)
    rows = as_rows(body(operator.get(CSV)))

    assert [event["action"] for event in events] == ["thing.failed", "thing.done"]
    wanted = {
        "id": str(event.pk),
        "action": "thing.done",
        "status": "success",
        "actor_id": str(olga.pk),
        "actor_email": "olga@example.com",
        "target_type": "accounts.user",
        "target_id": str(alice.pk),
        "ip": "10.1.2.3",
        "user_agent": "Browser",
    }
    for found, metadata in ((events[1], events[1]["metadata"]), (rows[2], json.loads(rows[2]["metadata"]))):
        assert wanted.items() <= found.items()
        assert set(found) == {*wanted, "created_at", "metadata"}
        assert abs((datetime.fromisoformat(found["created_at"]) - event.created_at).total_seconds()) < 0.001
        assert metadata == {"odd": ODD}
    assert (rows[1]["actor_id"], rows[1]["ip"]) == ("", "")


@pytest.mark.parametrize(("address", "ending"), [(CSV, "csv"), (JSON, "json")])
def test_it_is_a_download_that_no_cache_keeps(operator, address, ending):
    answer = operator.get(address)

    assert answer["Content-Type"] == {"csv": "text/csv; charset=utf-8", "json": "application/json"}[ending]
    assert answer["Content-Disposition"].startswith('attachment; filename="mainstay-audit-')
    assert answer["Content-Disposition"].endswith(f'.{ending}"')
    assert "no-store" in answer["Cache-Control"]


@pytest.mark.parametrize("count", [0, 1, 499, 500, 501, 2_345])
def test_every_event_is_there_once_whatever_the_pages_are(db, count):
    many(count, user_agent=ODD)
    wanted = [f"thing.{number}" for number in reversed(range(count))]
    events = AuditEvent.objects.all()

    found = json.loads(b"".join(audit_export.as_json(events)))
    rows = as_rows(b"".join(audit_export.as_csv(events)).decode())

    assert [event["action"] for event in found] == [row["action"] for row in rows] == wanted
    assert (
        {event["user_agent"] for event in found} == {row["user_agent"] for row in rows} == ({ODD} if count else set())
    )


def test_thousands_of_rows_are_read_a_page_at_a_time(operator):
    many(3_000)

    answer = operator.get(CSV)
    with CaptureQueriesContext(connection) as queries:
        pieces = answer.streaming_content
        next(pieces)
        next(pieces)
        assert len(queries) == 1
        left = list(pieces)

    assert len(left) == 5
    assert len(queries) == 7


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_a_spreadsheet_is_given_no_formula(operator, start):
    harmful = f"{start}HYPERLINK(1)"
    AuditEvent.objects.create(action="a", user_agent=harmful, actor_email=harmful, target_id=harmful)

    (row,) = [row for row in as_rows(body(operator.get(CSV))) if row["action"] == "a"]
    (event,) = [event for event in exported(operator) if event["action"] == "a"]

    assert {row["user_agent"], row["actor_email"], row["target_id"]} == {f"'{harmful}"}
    assert {event["user_agent"], event["actor_email"], event["target_id"]} == {harmful}


# Which events ---------------------------------------------------------------------------------------------------------


def test_search_and_filters_of_the_list_are_those_of_the_export(operator, alice, bob):
    audit.record("thing.done", by=alice, target=bob, ip="10.1.2.3")
    audit.record("thing.failed", by=alice, target=bob, status=AuditEvent.Status.FAILURE)
    audit.record("other.done", by=bob)

    assert actions(operator) == ["other.done", "thing.failed", "thing.done"]
    assert actions(operator, q="alice@") == ["thing.failed", "thing.done"]
    assert actions(operator, status__exact="failure") == ["thing.failed"]
    assert actions(operator, q="alice@", action__icontains="done") == ["thing.done"]
    assert actions(operator, target_type__exact="accounts.user", target_id__exact=str(bob.pk), p="7") == [
        *("thing.failed", "thing.done")
    ]
    assert actions(operator, created_at__gte="2200-01-01 00:00Z") == []


def test_the_buttons_carry_the_filters_on_but_not_the_page(operator):
    many(120)

    plain = operator.get(LIST).content.decode()
    narrowed = operator.get(LIST, {"q": "thing.1&2", "status__exact": "success", "action__icontains": "", "p": "1"})

    assert f'href="{CSV}"' in plain
    assert f'href="{JSON}"' in plain
    for address in (CSV, JSON):
        assert f'href="{address}?q=thing.1%262&amp;status__exact=success"' in narrowed.content.decode()


def test_a_senseless_filter_leads_back_to_the_list(operator):
    answer = operator.get(CSV, {"created_at__gte": "yesterday"})

    assert answer.headers["Location"] == LIST
    assert messages(answer, operator) == ["There is no such filter."]
    assert not AuditEvent.objects.exists()


@pytest.mark.parametrize("term", ["alice@EXAMPLE", "thing.do", "target", "short", "10.1.2.3", "10.1.", "2001:0db8::1"])
def test_the_search_finds_by_person_action_target_and_ip(operator, alice, bob, term):
    found = audit.record("thing.done", by=alice, target=bob, ip="2001:db8::1" if ":" in term else "10.1.2.3")
    audit.record("other", by=bob, ip="10.101.2.30")
    audit.record("other", by=bob, ip="110.1.2.3")
    wanted = {"target": str(bob.pk), "short": str(bob.pk)[-12:]}.get(term, term)

    listed = list(operator.get(LIST, {"q": wanted}).context["cl"].result_list)

    if term == "10.1.":
        assert found in listed
    elif term == "target":
        assert {event.action for event in listed} == {"thing.done", "other"}
    else:
        assert listed == [found]


# Who ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", [CSV, JSON])
@pytest.mark.parametrize(("role", "status"), [("operator", 200), ("support", 200), ("analyst", 403)])
def test_the_role_decides_who_may(client, db, address, role, status):
    user = UserFactory(is_staff=True)
    user.groups.add(Group.objects.get(name=role))
    client.force_login(user)

    assert client.get(address).status_code == status
    assert AuditEvent.objects.filter(action="audit.exported").exists() == (status == 200)


@pytest.mark.parametrize("address", [CSV, JSON])
def test_others_are_sent_to_the_sign_in(client, alice, address):
    assert client.get(address).headers["Location"].startswith("/admin/login/")
    client.force_login(alice)
    assert client.get(address).headers["Location"].startswith("/admin/login/")


def test_an_export_is_audited_without_what_was_searched_for(operator, olga, alice):
    answer = operator.get(
        CSV, {"q": "alice@example.com", "status__exact": "success", "created_at__gte": "2026-01-01 00:00Z"}
    )

    event = AuditEvent.objects.get()
    assert (event.action, event.actor_id, event.ip) == ("audit.exported", olga.pk, "127.0.0.1")
    assert event.metadata == {"format": "csv", "filters": ["created_at", "q", "status"]}
    assert as_rows(body(answer)) == []


@pytest.mark.django_db(transaction=True)
def test_on_the_event_loop_no_connection_is_held_between_two_pieces():
    many(1_200)
    request = AsyncRequestFactory().get(CSV)
    assert isinstance(request, ASGIRequest)
    pieces = audit_export.as_csv(AuditEvent.objects.all())
    response = download(request, pieces, name="audit.csv", content_type="text/csv")
    connection.close()

    async def take():
        taken = []
        async for piece in response:
            taken.append(piece)
            assert connection.connection is None
        return taken

    taken = asyncio.run(take())

    assert len(taken) == 4
    assert len(as_rows(b"".join(taken).decode())) == 1_200
