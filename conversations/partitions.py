"""The months of messages: partitions made ahead, moved into, watched and dropped.

A message is in the partition of the month that is in its id (UUIDv7), so its key is the id alone, and whoever looks for
an id looks into one partition. What fits no month is in the default partition: from there it is moved once its month is
made, and as long as something is left there, `readyz`, the metrics and the admin say so.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

import structlog
from django.conf import settings
from django.db import DatabaseError, connection, transaction
from django.utils import timezone
from psycopg import errors

from accounts import audit
from accounts.ids import uuid7_floor
from conversations.models import Conversation, Message

log = structlog.get_logger(__name__)

TABLE = Message._meta.db_table
DEFAULT = f"{TABLE}_default"
NAME = re.compile(rf"{TABLE}_(\d{{4}})_(\d\d)")
MONTHS_AHEAD = 3
# Before that there were no ids of this kind.
FIRST_MONTH = date(2020, 1, 1)
# Nobody who writes messages waits for longer; what could not be done is done the next time.
LOCK_TIMEOUT = "3s"
MOST_COUNTED = 10_000

PARTITIONS = """
SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = %s::regclass ORDER BY c.relname
"""
# The months of the messages that are in none. The first 48 bits of an id are milliseconds.
UNPLACED_MONTHS = f"""
SELECT DISTINCT to_char(
    to_timestamp(('x' || left(replace(id::text, '-', ''), 12))::bit(48)::bigint / 1000.0) AT TIME ZONE 'UTC', 'YYYY-MM'
) FROM {DEFAULT} WHERE id >= %s AND id < %s ORDER BY 1
"""  # noqa: S608 - names that stand above
COLUMNS = ", ".join(str(column.column) for column in Message._meta.local_concrete_fields)
MOVE = f"""
WITH moved AS (DELETE FROM {DEFAULT} WHERE id >= %s AND id < %s RETURNING {COLUMNS})
INSERT INTO {{name}} ({COLUMNS}) SELECT {COLUMNS} FROM moved
"""  # noqa: S608


@dataclass
class Done:
    """What came of a run: names of partitions, and how many messages left the default partition."""

    made: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    moved: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def is_nothing(self) -> bool:
        return not (self.made or self.dropped or self.moved or self.problems)


def manage(*, now: datetime | None = None) -> Done:
    """Make the partitions of the months to come, empty the default one into months, and drop what is too old.

    Each step is a transaction of its own, which gives up rather than hold up who writes. May be run at any time, as
    often as one likes, and by several at once.
    """
    today = (now or timezone.now()).astimezone(UTC).date()
    this_month = today.replace(day=1)
    done = Done()
    for month in _wanted(this_month):
        _try(done, _make, month)
    if settings.MESSAGE_RETENTION_MONTHS:
        first_kept = shifted(this_month, -settings.MESSAGE_RETENTION_MONTHS)
        for month in [month for month in partitions() if month < first_kept]:
            # Before, and by itself: while a table is dropped, nobody reads messages.
            Conversation.objects.filter(head_id__lt=bounds(month)[1]).update(head=None)
            _try(done, _drop, month)
    return done


def unplaced() -> int:
    """How many messages are in the default partition, counted up to MOST_COUNTED."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM (SELECT FROM {DEFAULT} LIMIT {MOST_COUNTED}) counted")  # noqa: S608
        return int(cursor.fetchone()[0])


def months_ahead(*, now: datetime | None = None) -> int:
    """For how many months after this one there are partitions already."""
    month = (now or timezone.now()).astimezone(UTC).date().replace(day=1)
    known, count = set(partitions()), 0
    while shifted(month, count + 1) in known:
        count += 1
    return count


def partitions() -> list[date]:
    """The months that have a partition, the earliest first."""
    with connection.cursor() as cursor:
        cursor.execute(PARTITIONS, [TABLE])
        found = [NAME.fullmatch(name) for (name,) in cursor.fetchall()]
    return [date(int(match[1]), int(match[2]), 1) for match in found if match]


def shifted(month: date, count: int) -> date:
    """The first day of the month `count` months later."""
    years, index = divmod(month.month - 1 + count, 12)
    return date(month.year + years, index + 1, 1)


def name_of(month: date) -> str:
    return f"{TABLE}_{month:%Y_%m}"


def bounds(month: date) -> tuple[str, str]:
    """From which id on, and up to which, messages are of a month."""
    first, last = (datetime(day.year, day.month, 1, tzinfo=UTC) for day in (month, shifted(month, 1)))
    return str(uuid7_floor(first)), str(uuid7_floor(last))


def _wanted(this_month: date) -> list[date]:
    """The months that ought to have a partition and have none."""
    last = shifted(this_month, MONTHS_AHEAD)
    with connection.cursor() as cursor:
        cursor.execute(UNPLACED_MONTHS, [bounds(FIRST_MONTH)[0], bounds(last)[1]])
        found = {date(int(text[:4]), int(text[5:]), 1) for (text,) in cursor.fetchall()}
    found |= {shifted(this_month, count) for count in range(MONTHS_AHEAD + 1)}
    return sorted(found - set(partitions()))


def _try(done: Done, step: Callable[[Done, date], None], month: date) -> None:
    """One step in a transaction of its own; of several who are at it, one after the other."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext('conversations.partitions'))")
            step(done, month)
    except DatabaseError as error:
        if not isinstance(error.__cause__, errors.LockNotAvailable | errors.CheckViolation):
            raise
        log.warning("partition_left_for_later", partition=name_of(month), why=type(error.__cause__).__name__)
        done.problems.append(f"{name_of(month)} is left for the next time: {type(error.__cause__).__name__}")


def _make(done: Done, month: date) -> None:
    """A table of its own first, which is then attached: so, reading and writing the others goes on meanwhile."""
    if month in partitions():
        return
    name, (first, last) = name_of(month), bounds(month)
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE {name} (LIKE {TABLE} INCLUDING ALL)")
        cursor.execute(f"SELECT EXISTS (SELECT FROM {DEFAULT} WHERE id >= %s AND id < %s)", [first, last])  # noqa: S608
        if cursor.fetchone()[0]:
            # Nobody may add to it until the month is attached, or that would fail.
            cursor.execute(f"LOCK TABLE {DEFAULT} IN ACCESS EXCLUSIVE MODE")
            cursor.execute(MOVE.format(name=name), [first, last])
            done.moved += cursor.rowcount
        cursor.execute(f"ALTER TABLE {TABLE} ATTACH PARTITION {name} FOR VALUES FROM ('{first}') TO ('{last}')")
    done.made.append(name)


def _drop(done: Done, month: date) -> None:
    """The messages of a month, in no time. Conversations that are empty then are a chore (`conversations.cleanup`)."""
    if month not in partitions():
        return
    name = name_of(month)
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE {name}")
    audit.record("messages.dropped", by=None, partition=name)
    done.dropped.append(name)
