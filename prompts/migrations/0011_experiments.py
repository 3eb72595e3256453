import django.contrib.postgres.fields
from django.db import migrations, models
from django.db.models import Q


def forget_judgements(apps, schema_editor):
    """Until now whatever callers had named counted, as often as they liked; what was learned cannot be told apart."""
    figures = apps.get_model("prompts", "TechniqueEffectiveness").objects.all()
    figures.update(used=0, successes=0, failures=0, rating_count=0, rating_sum=0)


class Migration(migrations.Migration):

    dependencies = [("prompts", "0010_descriptions")]

    operations = [
        migrations.AddField("prompthistory", "is_experiment", models.BooleanField(default=False)),
        migrations.AddField(
            "prompthistory",
            "counted",
            django.contrib.postgres.fields.ArrayField(
                base_field=models.CharField(max_length=60), blank=True, default=list, size=None
            ),
        ),
        migrations.AddConstraint(
            "prompthistory",
            models.CheckConstraint(
                condition=Q(("counted", []), ("is_experiment", True), _connector="OR"),
                name="prompthistory_only_experiments_count",
            ),
        ),
        migrations.AddIndex(
            "prompthistory",
            models.Index(condition=Q(("counted", []), _negated=True), fields=["user", "intent"], name="prompthistory_counted"),
        ),
        migrations.AlterField(
            "techniqueeffectiveness",
            "used",
            models.PositiveBigIntegerField(
                default=0, help_text="Of those that count, the ones that somebody says to have used."
            ),
        ),
        migrations.RunPython(forget_judgements, migrations.RunPython.noop),
    ]
