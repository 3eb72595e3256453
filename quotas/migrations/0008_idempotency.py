import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

import accounts.ids
from accounts.operations import FollowMerges


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0006_follow_merges"),
        ("quotas", "0007_grants"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="IdempotencyRecord",
            fields=[
                ("id", models.UUIDField(default=accounts.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ("key", models.CharField(max_length=255)),
                ("endpoint", models.CharField(help_text="Method and path.", max_length=200)),
                ("fingerprint", models.CharField(max_length=64)),
                (
                    "status",
                    models.CharField(
                        choices=[("running", "Running"), ("done", "Done")], default="running", max_length=10
                    ),
                ),
                ("response_status", models.PositiveSmallIntegerField(null=True)),
                ("headers", models.JSONField(default=dict)),
                ("body", models.BinaryField(null=True)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ("expires_at", models.DateTimeField()),
                (
                    "user",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="idempotency_records",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "ordering": ("-id",),
                "indexes": [models.Index(fields=["expires_at"], name="idempotencyrecord_expires_at")],
                "constraints": [
                    models.UniqueConstraint(fields=("user", "key"), name="idempotencyrecord_unique"),
                    models.CheckConstraint(
                        condition=models.Q(("status__in", ["running", "done"])), name="idempotencyrecord_status_known"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("body", None), ("response_status", None), ("status", "running")),
                            models.Q(
                                models.Q(("status", "running"), _negated=True), ("response_status__isnull", False)
                            ),
                            _connector="OR",
                        ),
                        name="idempotencyrecord_answered_when_done",
                    ),
                ],
            },
        ),
        FollowMerges("quotas_idempotencyrecord"),
        # What a key does is the new table's affair; here it is only noted.
        migrations.RemoveConstraint(model_name="reservation", name="reservation_idempotent"),
        migrations.AlterField(
            model_name="reservation",
            name="idempotency_key",
            field=models.CharField(blank=True, default="", max_length=255),
        ),
    ]
