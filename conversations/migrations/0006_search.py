"""The words of messages: a column that the database keeps, with an index in each month.

It is no field of the model: nobody reads it, and it would come along with each message. As in prompts, words count as
they are and as their English stems; what stands in < and > is words, too. More of a text would not fit into a vector.
"""

from django.db import migrations

TEXT = "translate(left(content, 50000), '<>', '  ')"
WORDS = f"""
ALTER TABLE conversations_message ADD COLUMN tsv tsvector NOT NULL
    GENERATED ALWAYS AS (to_tsvector('simple', {TEXT}) || to_tsvector('english', {TEXT})) STORED;
CREATE INDEX message_tsv ON conversations_message USING gin (tsv);
"""
NO_WORDS = """
DROP INDEX message_tsv;
ALTER TABLE conversations_message DROP COLUMN tsv;
"""


class Migration(migrations.Migration):
    dependencies = [("conversations", "0005_threads")]

    operations = [migrations.RunSQL(WORDS, NO_WORDS)]
