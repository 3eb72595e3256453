from django.db import migrations

from config.roles import grant


class Migration(migrations.Migration):
    dependencies = [("config", "0003_roles"), ("prompts", "0004_intents")]

    operations = [migrations.RunPython(grant, migrations.RunPython.noop)]
