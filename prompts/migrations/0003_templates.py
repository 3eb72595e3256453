import accounts.ids
import django.contrib.postgres.fields
import django.contrib.postgres.indexes
import django.core.validators
import django.db.models.deletion
import django.utils.timezone
import prompts.models.templates
from django.conf import settings
from django.db import migrations, models

from accounts.operations import FollowMerges

# A version goes only with its template, and that only when its owner is erased: it is marked as deleted before.
IMMUTABLE = """
CREATE FUNCTION prompts_promptversion_immutable() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND NOT EXISTS (
        SELECT FROM prompts_prompttemplate WHERE id = OLD.template_id AND deleted_at IS NULL
    ) THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'versions of prompt templates stay as they are' USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER promptversion_no_change BEFORE UPDATE OR DELETE ON prompts_promptversion
    FOR EACH ROW EXECUTE FUNCTION prompts_promptversion_immutable();
"""

UNDO = """
DROP TRIGGER promptversion_no_change ON prompts_promptversion;
DROP FUNCTION prompts_promptversion_immutable();
"""


class Migration(migrations.Migration):
    dependencies = [
        ('prompts', '0002_follow_merges'),
        ('inference', '0005_prompt_version'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='PromptTemplate',
            fields=[
                ('id', models.UUIDField(default=accounts.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('name', models.CharField(max_length=64, validators=[django.core.validators.RegexValidator('^[a-z0-9][a-z0-9._-]{0,63}\\Z')])),
                ('description', models.TextField(blank=True)),
                ('tags', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=50), blank=True, default=list, size=None)),
                ('is_shared', models.BooleanField(default=False, help_text='Everybody can use it.')),
                ('protected_labels', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=64), blank=True, default=prompts.models.templates.protected_by_default, help_text='Labels that an API key moves only if it has the scope admin.', size=None)),
                ('latest_version', models.PositiveIntegerField(default=0, editable=False)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('updated_at', models.DateTimeField(auto_now=True)),
                ('deleted_at', models.DateTimeField(blank=True, editable=False, null=True)),
                ('user', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='prompt_templates', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'ordering': ('-id',),
            },
        ),
        migrations.CreateModel(
            name='PromptVersion',
            fields=[
                ('id', models.UUIDField(default=accounts.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('number', models.PositiveIntegerField()),
                ('content', models.JSONField()),
                ('variables', models.JSONField(default=list)),
                ('includes', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=130), default=list, size=None)),
                ('commit_message', models.CharField(blank=True, max_length=500)),
                ('author_id', models.UUIDField(null=True)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('template', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='versions', to='prompts.prompttemplate')),
            ],
            options={
                'ordering': ('-id',),
            },
        ),
        migrations.CreateModel(
            name='PromptUsage',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('day', models.DateField()),
                ('requests', models.PositiveBigIntegerField(default=0)),
                ('errors', models.PositiveBigIntegerField(default=0)),
                ('input_tokens', models.PositiveBigIntegerField(default=0)),
                ('output_tokens', models.PositiveBigIntegerField(default=0)),
                ('cost', models.PositiveBigIntegerField(default=0, help_text='Micro-USD.')),
                ('processing_time', models.PositiveBigIntegerField(default=0, help_text='Milliseconds, of all calls together.')),
                ('version', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='usage', to='prompts.promptversion')),
            ],
            options={
                'ordering': ('-day', 'version'),
            },
        ),
        migrations.CreateModel(
            name='PromptLabel',
            fields=[
                ('id', models.UUIDField(default=accounts.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('name', models.CharField(max_length=64, validators=[django.core.validators.RegexValidator('^[a-z][a-z0-9_-]{0,63}\\Z')])),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('moved_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('template', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='labels', to='prompts.prompttemplate')),
                ('version', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='labels', to='prompts.promptversion')),
            ],
            options={
                'ordering': ('name',),
            },
        ),
        migrations.AddIndex(
            model_name='prompttemplate',
            index=models.Index(fields=['user', '-id'], name='prompttemplate_user'),
        ),
        migrations.AddIndex(
            model_name='prompttemplate',
            index=django.contrib.postgres.indexes.GinIndex(fields=['tags'], name='prompttemplate_tags'),
        ),
        migrations.AddConstraint(
            model_name='prompttemplate',
            constraint=models.UniqueConstraint(condition=models.Q(('deleted_at', None)), fields=('user', 'name'), name='prompttemplate_name'),
        ),
        migrations.AddConstraint(
            model_name='prompttemplate',
            constraint=models.UniqueConstraint(condition=models.Q(('deleted_at', None), ('is_shared', True)), fields=('name',), name='prompttemplate_shared_name'),
        ),
        migrations.AddConstraint(
            model_name='prompttemplate',
            constraint=models.CheckConstraint(condition=models.Q(('name__regex', '^[a-z0-9][a-z0-9._-]{0,63}$')), name='prompttemplate_name_plain'),
        ),
        migrations.AddIndex(
            model_name='promptversion',
            index=models.Index(fields=['template', '-id'], name='promptversion_template'),
        ),
        migrations.AddConstraint(
            model_name='promptversion',
            constraint=models.UniqueConstraint(fields=('template', 'number'), name='promptversion_number_unique'),
        ),
        migrations.AddConstraint(
            model_name='promptversion',
            constraint=models.CheckConstraint(condition=models.Q(('number__gte', 1)), name='promptversion_number_positive'),
        ),
        migrations.AddConstraint(
            model_name='promptusage',
            constraint=models.UniqueConstraint(fields=('version', 'day'), name='promptusage_unique'),
        ),
        migrations.AddConstraint(
            model_name='promptusage',
            constraint=models.CheckConstraint(condition=models.Q(('errors__lte', models.F('requests'))), name='promptusage_errors_are_requests'),
        ),
        migrations.AddConstraint(
            model_name='promptlabel',
            constraint=models.UniqueConstraint(fields=('template', 'name'), name='promptlabel_name_unique'),
        ),
        migrations.AddConstraint(
            model_name='promptlabel',
            constraint=models.CheckConstraint(condition=models.Q(('name__regex', '^[a-z][a-z0-9_-]{0,63}$')), name='promptlabel_name_plain'),
        ),
        migrations.RunSQL(IMMUTABLE, UNDO),
        FollowMerges("prompts_prompttemplate"),
    ]
