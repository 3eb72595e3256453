from django.db import migrations

from config.roles import grant


class Migration(migrations.Migration):
    dependencies = [("config", "0002_roles"), ("quotas", "0011_subscription_events"), ("inference", "0004_prices")]

    operations = [migrations.RunPython(grant, migrations.RunPython.noop)]
