"""Messages are in the partition of their month, and the months are made, filled and dropped by themselves."""

import io
import threading
from datetime import UTC, date, datetime, timedelta

import pytest
from django.core.management import call_command
from django.db import connection, transaction
from django.utils import timezone

from accounts.ids import uuid7, uuid7_floor
from accounts.models import AuditEvent
from conversations import partitions
from conversations.cleanup import CHORES
from conversations.models import Conversation, Message
from conversations.tasks import manage_partitions
from conversations.tests.factories import a_conversation, said

THIS_MONTH = timezone.now().date().replace(day=1)
FAR = partitions.shifted(THIS_MONTH, 8)


def id_in(month, days=3):
    """The id of a message that was written in a month."""
    begun = uuid7_floor(datetime(month.year, month.month, 1, tzinfo=UTC) + timedelta(days=days))
    return type(begun)(int=begun.int | uuid7().int & (1 << 80) - 1)


def table_of(message):
    with connection.cursor() as cursor:
        cursor.execute("SELECT tableoid::regclass::text FROM conversations_message WHERE id = %s", [message.pk])
        return cursor.fetchone()[0]


def test_months_are_counted_over_the_end_of_a_year():
    assert partitions.shifted(date(2026, 11, 1), 2) == date(2027, 1, 1)
    assert partitions.shifted(date(2026, 1, 1), -13) == date(2024, 12, 1)
    first, last = partitions.bounds(date(2026, 12, 1))
    assert partitions.bounds(date(2027, 1, 1))[0] == last > first


def test_a_message_is_in_its_month_and_found_there_alone(alice):
    message = said(a_conversation(alice), "Hello")

    assert table_of(message) == partitions.name_of(THIS_MONTH)
    with connection.cursor() as cursor:
        cursor.execute("EXPLAIN SELECT content FROM conversations_message WHERE id = %s", [message.pk])
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert partitions.name_of(THIS_MONTH) in plan
    assert plan.count("Scan") == 1


def test_three_months_are_made_ahead_once(db):
    assert partitions.months_ahead() == partitions.MONTHS_AHEAD
    assert partitions.manage().is_nothing

    later = datetime(FAR.year, FAR.month, 15, tzinfo=UTC)
    done = partitions.manage(now=later)

    assert done.made == [partitions.name_of(partitions.shifted(FAR, count)) for count in range(4)]
    assert partitions.months_ahead(now=later) == 3
    assert partitions.manage(now=later).is_nothing


def test_what_fits_no_month_raises_an_alarm_until_its_month_is_made(alice, client, settings):
    settings.METRICS_TOKEN = "scraper"
    talk = a_conversation(alice, "Hello")
    strays = [said(talk, "Later", id=id_in(FAR)), said(talk, "Much later", id=id_in(FAR))]
    assert {table_of(stray) for stray in strays} == {partitions.DEFAULT}
    assert client.get("/readyz").json()["messages"] == {"unplaced": 2}
    scraped = client.get("/metrics", headers={"Authorization": "Bearer scraper"}).content.decode()
    assert "mainstay_messages_unplaced 2.0\n" in scraped
    assert "mainstay_message_months_ahead 3.0\n" in scraped

    done = partitions.manage(now=datetime(FAR.year, FAR.month, 1, tzinfo=UTC))

    assert done.moved == 2
    assert {table_of(stray) for stray in strays} == {partitions.name_of(FAR)}
    assert partitions.unplaced() == 0
    talk.refresh_from_db()
    assert [message.content for message in talk.messages.order_by("sequence")] == ["Hello", "Later", "Much later"]
    assert talk.head_id == strays[1].pk
    # The rules of the whole table hold in a month that was attached.
    with pytest.raises(Exception, match="message_role_known"), transaction.atomic():
        Message.objects.filter(pk=strays[0].pk).update(role="oracle")


def test_ids_of_no_time_stay_where_they_are(alice):
    said(a_conversation(alice), "Hello", id="ffffffff-0000-4000-8000-000000000000")

    assert partitions.manage().is_nothing
    assert partitions.unplaced() == 1


def test_old_months_are_dropped_whole_and_then_what_is_empty(alice, settings):
    old, begun = partitions.shifted(THIS_MONTH, -5), a_conversation(alice, "New")
    long_ago = datetime(old.year, old.month, 4, tzinfo=UTC)
    gone = a_conversation(alice, last_activity=long_ago)
    said(gone, "Old", id=id_in(old))
    Conversation.objects.filter(pk=gone.pk).update(last_activity=long_ago)
    both = a_conversation(alice)
    said(both, "Old", id=id_in(old))
    newer = said(both, "New", parent=None)
    partitions.manage()
    settings.MESSAGE_RETENTION_MONTHS = 5
    assert partitions.manage().is_nothing

    settings.MESSAGE_RETENTION_MONTHS = 4
    done = partitions.manage()
    purged = sum(chore.run(timezone.now()) for chore in CHORES)

    assert done.dropped == [partitions.name_of(old)]
    assert set(Message.objects.values_list("content", flat=True)) == {"New"}
    assert set(Conversation.objects.all()) == {begun, both}
    assert purged == 1
    assert said(both, "Goes on").parent_id == newer.pk
    event = AuditEvent.objects.get(action="messages.dropped")
    assert event.metadata == {"partition": partitions.name_of(old)}


def test_the_command_says_what_is_and_the_task_does_the_same(db):
    out = io.StringIO()
    call_command("manage_partitions", stdout=out)
    assert out.getvalue() == "There are partitions for 3 months ahead; 0 messages are in none.\n"
    manage_partitions()


@pytest.mark.django_db(transaction=True)
def test_who_reads_is_not_held_up_and_of_two_at_once_one_makes_the_month(monkeypatch):
    later = datetime(FAR.year, FAR.month, 15, tzinfo=UTC)
    monkeypatch.setattr(partitions, "MONTHS_AHEAD", 0)

    def run_in_threads(count):
        done = []
        threads = [threading.Thread(target=lambda: done.append(in_this_thread())) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return done

    def in_this_thread():
        try:
            return partitions.manage(now=later)
        finally:
            connection.close()

    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("LOCK TABLE conversations_message_default IN ROW EXCLUSIVE MODE")
            monkeypatch.setattr(partitions, "LOCK_TIMEOUT", "50ms")
            (busy,) = run_in_threads(1)
            assert busy.problems == [f"{partitions.name_of(FAR)} is left for the next time: LockNotAvailable"]
        monkeypatch.setattr(partitions, "LOCK_TIMEOUT", "10s")
        both = run_in_threads(2)
        assert sorted(len(done.made) for done in both) == [0, 1]
        assert not any(done.problems for done in both)
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"DROP TABLE IF EXISTS {partitions.name_of(FAR)}")
