"""Messages in partitions by month, by the time in their ids; the rows that are there move along.

Everything that a plain table has besides its rows is read from the catalogue and made anew under its old name, so that
later migrations find it, and so that the way back is the same one.
"""

from datetime import datetime, timezone

from django.db import migrations

TABLE, FORMER = "conversations_message", "conversations_message_former"
MONTHS_AHEAD = 3

DEFINITIONS = """
SELECT conname, pg_get_constraintdef(oid), NULL FROM pg_constraint
    WHERE conrelid = %(table)s::regclass AND contype IN ('p', 'f', 'c')
UNION ALL
SELECT c.relname, NULL, pg_get_indexdef(i.indexrelid) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    WHERE i.indrelid = %(table)s::regclass
    AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = i.indexrelid AND contype = 'p')
"""


def months(first, last):
    """The months from `first` to `last`, both as (year, month)."""
    year, month = first
    while (year, month) <= last:
        yield year, month
        year, month = (year + 1, 1) if month == 12 else (year, month + 1)


def following(year, month, count=1):
    return (year, month + count) if month + count <= 12 else (year + 1, month + count - 12)


def bound(year, month):
    milliseconds = int(datetime(year, month, 1, tzinfo=timezone.utc).timestamp() * 1000)
    return f"{milliseconds:012x}{'0' * 20}"


def month_of(id):
    then = datetime.fromtimestamp((id.int >> 80) / 1000, tz=timezone.utc)
    return then.year, then.month


def partition(apps, schema_editor):
    partitions = [f"CREATE TABLE {TABLE}_default PARTITION OF {TABLE} DEFAULT"]
    today = datetime.now(tz=timezone.utc)
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(f"SELECT id FROM {TABLE} ORDER BY id LIMIT 1")
        oldest = cursor.fetchone()
    this_month = (today.year, today.month)
    first = min(month_of(oldest[0]), this_month) if oldest else this_month
    for year, month in months(first, following(*this_month, MONTHS_AHEAD)):
        partitions.append(
            f"CREATE TABLE {TABLE}_{year}_{month:02} PARTITION OF {TABLE} "
            f"FOR VALUES FROM ('{bound(year, month)}') TO ('{bound(*following(year, month))}')"
        )
    rebuild(schema_editor, f"CREATE TABLE {TABLE} (LIKE {FORMER} INCLUDING DEFAULTS) PARTITION BY RANGE (id)", *partitions)


def unpartition(apps, schema_editor):
    rebuild(schema_editor, f"CREATE TABLE {TABLE} (LIKE {FORMER} INCLUDING DEFAULTS)")


def rebuild(schema_editor, *statements):
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(DEFINITIONS, {"table": TABLE})
        definitions = cursor.fetchall()
        cursor.execute(f"ALTER TABLE {TABLE} RENAME TO {FORMER}")
        for statement in statements:
            cursor.execute(statement)
        cursor.execute(f"INSERT INTO {TABLE} SELECT * FROM {FORMER}")
        cursor.execute(f"DROP TABLE {FORMER}")
        for name, constraint, index in definitions:
            if constraint is not None:
                cursor.execute(f'ALTER TABLE {TABLE} ADD CONSTRAINT "{name}" {constraint}')
            else:
                cursor.execute(index.replace(" ON ONLY ", " ON "))


class Migration(migrations.Migration):
    dependencies = [("conversations", "0002_follow_merges")]

    operations = [migrations.RunPython(partition, unpartition)]
