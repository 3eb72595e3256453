from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("inference", "0002_request_usage_known")]

    operations = [
        migrations.AlterModelOptions(
            name="request",
            options={
                "ordering": ("-id",),
                "permissions": [("view_request_content", "Can read what was asked and answered")],
            },
        ),
    ]
