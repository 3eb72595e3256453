from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('prompts', '0008_playground'),
    ]

    operations = [
        migrations.AddField(
            model_name='intentclassifier',
            name='weights_format',
            field=models.PositiveSmallIntegerField(db_default=1, editable=False),
        ),
    ]
