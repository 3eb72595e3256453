from django.db import migrations

from config.roles import grant


class Migration(migrations.Migration):
    dependencies = [("config", "0005_roles"), ("prompts", "0007_search")]

    operations = [migrations.RunPython(grant, migrations.RunPython.noop)]
