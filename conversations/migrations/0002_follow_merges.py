from django.db import migrations

from accounts.operations import FollowMerges


class Migration(migrations.Migration):
    dependencies = [("conversations", "0001_initial"), ("accounts", "0006_follow_merges")]

    operations = [FollowMerges("conversations_conversation")]
