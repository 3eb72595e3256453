from django.db import migrations

from accounts.encryption import cipher


def encrypt(apps, schema_editor):
    change(schema_editor, lambda name: cipher().encrypt(name.encode()).decode())


def decrypt(apps, schema_editor):
    change(schema_editor, lambda name: cipher().decrypt(name.encode()).decode())


def change(schema_editor, as_it_shall_be):
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("SELECT id, full_name FROM accounts_user WHERE full_name <> ''")
        names = [(as_it_shall_be(name), id) for id, name in cursor.fetchall()]
        cursor.executemany("UPDATE accounts_user SET full_name = %s WHERE id = %s", names)


# An erased user's personal data leave the record: nothing else in it may change, and nothing may go.
APPEND_ONLY = """
CREATE OR REPLACE FUNCTION accounts_auditevent_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.actor_email = '' AND NEW.ip IS NULL AND NEW.user_agent = ''
        AND (to_jsonb(NEW) - 'actor_email' - 'ip' - 'user_agent') = (to_jsonb(OLD) - 'actor_email' - 'ip' - 'user_agent')
    THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'audit events are append-only' USING ERRCODE = 'restrict_violation';
END $$;
"""

BEFORE = """
CREATE OR REPLACE FUNCTION accounts_auditevent_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit events are append-only' USING ERRCODE = 'restrict_violation';
END $$;
"""


class Migration(migrations.Migration):
    dependencies = [("accounts", "0003_accounts_in_full")]

    operations = [migrations.RunPython(encrypt, decrypt), migrations.RunSQL(APPEND_ONLY, BEFORE)]
