from django.db import migrations

from accounts.operations import FollowMerges


class Migration(migrations.Migration):
    dependencies = [("prompts", "0001_initial"), ("accounts", "0006_follow_merges")]

    operations = [FollowMerges("prompts_savedprompt")]
