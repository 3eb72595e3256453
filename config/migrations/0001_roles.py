from django.db import migrations

from config.roles import grant


class Migration(migrations.Migration):
    dependencies = [
        ("contenttypes", "0002_remove_content_type_name"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("accounts", "0005_support_permission"),
        ("quotas", "0004_granted"),
        ("inference", "0003_content_permission"),
        ("prompts", "0001_initial"),
        ("conversations", "0001_initial"),
        ("analytics", "0001_initial"),
    ]

    operations = [migrations.RunPython(grant, migrations.RunPython.noop)]
