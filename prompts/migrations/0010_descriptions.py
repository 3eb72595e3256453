import django.db.models.functions.text
import django.db.models.lookups
from django.db import migrations, models

# Until now they could have any length.
CUT = "UPDATE prompts_prompttemplate SET description = left(description, 5000) WHERE length(description) > 5000"


class Migration(migrations.Migration):
    dependencies = [
        ('prompts', '0009_classifier'),
    ]

    operations = [
        migrations.RunSQL(CUT, migrations.RunSQL.noop),
        migrations.AlterField(
            model_name='prompttemplate',
            name='description',
            field=models.TextField(blank=True, max_length=5000),
        ),
        migrations.AddConstraint(
            model_name='prompttemplate',
            constraint=models.CheckConstraint(condition=django.db.models.lookups.LessThanOrEqual(django.db.models.functions.text.Length('description'), 5000), name='prompttemplate_description_short'),
        ),
    ]
