from django.db import migrations

from config.roles import grant


class Migration(migrations.Migration):
    dependencies = [
        ("config", "0004_roles"),
        ("prompts", "0011_experiments"),
        ("conversations", "0007_channel_off_text"),
    ]

    operations = [migrations.RunPython(grant, migrations.RunPython.noop)]
