from django.db import migrations

from config.roles import grant


class Migration(migrations.Migration):
    dependencies = [
        ("config", "0003_roles"),
        ("quotas", "0012_rate_limits"),
        ("inference", "0005_prompt_version"),
        ("prompts", "0003_templates"),
    ]

    operations = [migrations.RunPython(grant, migrations.RunPython.noop)]
