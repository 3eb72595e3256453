from django.core.exceptions import ValidationError
from django.db import migrations, models

import quotas.windows

# requests a minute, requests a day, tokens a minute
SIZES = {"free": (600, 50_000, 100_000), "pro": (3_000, 500_000, 1_000_000), "team": (12_000, 5_000_000, 10_000_000)}


def fill(apps, schema_editor):
    """Limits that nobody meets by honest use, on the plans that came with the installation and have none yet."""
    Plan = apps.get_model("quotas", "Plan")
    for plan in Plan.objects.order_by("id"):
        if plan.rate_limits != {} and not _is_valid(plan.rate_limits):
            # Nothing has ever read it, so it has limited nobody.
            Plan.objects.filter(pk=plan.pk).update(rate_limits={})
    for slug, (minute, day, tokens) in SIZES.items():
        requests = {"minute": minute, "day": day}
        limits = {"default": {"requests": requests}, "inference": {"requests": requests, "tokens": {"minute": tokens}}}
        Plan.objects.filter(slug=slug, rate_limits={}).update(rate_limits=limits)


def _is_valid(rate_limits):
    try:
        quotas.windows.validate_rate_limits(rate_limits)
    except ValidationError:
        return False
    return True


class Migration(migrations.Migration):
    dependencies = [("quotas", "0011_subscription_events")]

    operations = [
        migrations.AlterField(
            model_name="plan",
            name="rate_limits",
            field=models.JSONField(
                blank=True,
                default=dict,
                help_text="How many requests and tokens a second, minute, hour or day may have, see `quotas.windows`.",
                validators=[quotas.windows.validate_rate_limits],
            ),
        ),
        migrations.RunPython(fill, migrations.RunPython.noop),
        migrations.AddConstraint(
            model_name="plan",
            constraint=models.CheckConstraint(
                condition=models.Func(
                    models.F("rate_limits"),
                    output_field=models.BooleanField(),
                    template="""coalesce(jsonb_path_match(%(expressions)s, 'strict $.type() == "object"
        && !exists($.* ? (@.type() != "object")) && !exists($.*.* ? (@.type() != "object"))
        && !exists($.*.*.* ? (@.type() != "number" || @ < 1))', silent => true), false)""",
                ),
                name="plan_rate_limits_positive",
            ),
        ),
    ]
