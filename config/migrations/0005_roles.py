from django.db import migrations

from config.roles import grant


class Migration(migrations.Migration):
    dependencies = [
        ("config", "0004_roles"),
        ("prompts", "0010_descriptions"),
        ("conversations", "0005_threads"),
    ]

    operations = [migrations.RunPython(grant, migrations.RunPython.noop)]
