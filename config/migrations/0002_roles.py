from django.db import migrations

from config.roles import grant


class Migration(migrations.Migration):
    dependencies = [("config", "0001_roles"), ("quotas", "0006_feature_flags")]

    operations = [migrations.RunPython(grant, migrations.RunPython.noop)]
