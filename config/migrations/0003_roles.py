from django.db import migrations

from config.roles import grant


class Migration(migrations.Migration):
    dependencies = [("config", "0002_roles"), ("quotas", "0009_billing")]

    operations = [migrations.RunPython(grant, migrations.RunPython.noop)]
