from django.db import migrations

from config.roles import grant


class Migration(migrations.Migration):
    dependencies = [
        ("config", "0003_roles"),
        ("quotas", "0014_checkouts"),
        ("inference", "0005_prompt_version"),
        ("prompts", "0004_intents"),
    ]

    operations = [migrations.RunPython(grant, migrations.RunPython.noop)]
