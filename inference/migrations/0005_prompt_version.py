from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("inference", "0004_prices")]

    operations = [
        migrations.AddField(
            model_name="request",
            name="prompt_version_id",
            field=models.UUIDField(
                "prompt version",
                null=True,
                blank=True,
                help_text="The version of a prompt template that ran: a plain value, for templates stand above this "
                "application.",
            ),
        ),
        migrations.AddIndex(
            model_name="request",
            index=models.Index(
                condition=models.Q(("prompt_version_id__isnull", False)),
                fields=["prompt_version_id", "-id"],
                name="request_prompt",
            ),
        ),
    ]
