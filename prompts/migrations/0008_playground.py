from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("prompts", "0007_search")]

    operations = [
        migrations.AlterModelOptions(
            name="prompttemplate",
            options={
                "ordering": ("-id",),
                "permissions": [("run_prompttemplate", "Can run prompt templates on models")],
            },
        ),
    ]
