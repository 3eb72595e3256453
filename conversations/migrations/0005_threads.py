"""What was said so far becomes one branch; and the rules that keys and checks cannot hold."""

from django.db import migrations

FILL = """
UPDATE conversations_message m SET sequence = told.number, parent_id = told.before
FROM (
    SELECT id, row_number() OVER said AS number, lag(id) OVER said AS before FROM conversations_message
    WINDOW said AS (PARTITION BY conversation_id ORDER BY id)
) told
WHERE m.id = told.id;

UPDATE conversations_conversation c SET head_id = latest.id, last_sequence = latest.sequence
FROM (
    SELECT DISTINCT ON (conversation_id) conversation_id, id, sequence FROM conversations_message
    ORDER BY conversation_id, sequence DESC
) latest
WHERE c.id = latest.conversation_id;
"""

# A parent is said before its children, so there are no cycles. For a client's id, the conversation is locked: two who
# use it at once would not see each other.
TRIGGER = """
CREATE FUNCTION conversations_message_in_place() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.parent_id IS NOT NULL AND NOT EXISTS (
        SELECT FROM conversations_message
        WHERE id = NEW.parent_id AND conversation_id = NEW.conversation_id AND sequence < NEW.sequence
    ) THEN
        RAISE foreign_key_violation USING
            MESSAGE = 'a parent is an earlier message of the same conversation', CONSTRAINT = 'message_parent_known';
    END IF;
    IF NEW.reply_to_id IS NOT NULL AND NOT EXISTS (
        SELECT FROM conversations_message WHERE id = NEW.reply_to_id AND conversation_id = NEW.conversation_id
    ) THEN
        RAISE foreign_key_violation USING
            MESSAGE = 'what is answered is a message of the same conversation', CONSTRAINT = 'message_reply_to_known';
    END IF;
    IF NEW.client_message_id <> '' THEN
        PERFORM FROM conversations_conversation WHERE id = NEW.conversation_id FOR NO KEY UPDATE;
        IF EXISTS (
            SELECT FROM conversations_message
            WHERE conversation_id = NEW.conversation_id AND client_message_id = NEW.client_message_id
            AND id <> NEW.id
        ) THEN
            RAISE unique_violation USING
                MESSAGE = 'a client''s id is used once in a conversation',
                CONSTRAINT = 'message_client_message_id_unique';
        END IF;
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER conversations_message_in_place
    BEFORE INSERT OR UPDATE OF conversation_id, parent_id, reply_to_id, sequence, client_message_id
    ON conversations_message FOR EACH ROW EXECUTE FUNCTION conversations_message_in_place();
"""
NO_TRIGGER = """
DROP TRIGGER conversations_message_in_place ON conversations_message;
DROP FUNCTION conversations_message_in_place();
"""


def seed(apps, schema_editor):
    configs = apps.get_model("conversations", "ChannelConfig").objects
    for name in ("api", "discord", "slack", "telegram", "web"):
        configs.get_or_create(name=name)


class Migration(migrations.Migration):
    dependencies = [("conversations", "0004_threads_and_channels")]

    operations = [
        migrations.RunSQL(FILL, migrations.RunSQL.noop),
        migrations.RunSQL(TRIGGER, NO_TRIGGER),
        migrations.RunPython(seed, migrations.RunPython.noop),
    ]
