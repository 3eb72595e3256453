from django.db import migrations

MILLION = 1_000_000

# resource, unit, period, and the limit on each plan
LIMITS = (
    ("llm", "requests", "day", {"free": 200, "pro": 5_000, "team": 50_000}),
    ("llm", "tokens", "month", {"free": 200_000, "pro": 10 * MILLION, "team": 200 * MILLION}),
    ("embedding", "tokens", "month", {"free": MILLION, "pro": 50 * MILLION, "team": 1_000 * MILLION}),
    ("stt", "seconds", "month", {"free": 3_600, "pro": 100_000, "team": 2 * MILLION}),
    ("tts", "characters", "month", {"free": 50_000, "pro": 2 * MILLION, "team": 40 * MILLION}),
)

PLANS = (
    ("free", "Free", "To try things out.", True),
    ("pro", "Pro", "For one product in earnest.", False),
    ("team", "Team", "For several products and many users.", False),
)


def seed(apps, schema_editor):
    Plan = apps.get_model("quotas", "Plan")
    PlanLimit = apps.get_model("quotas", "PlanLimit")
    for position, (slug, name, description, is_default) in enumerate(PLANS):
        plan, created = Plan.objects.get_or_create(
            slug=slug,
            defaults={"name": name, "description": description, "is_default": is_default, "position": position},
        )
        if created:
            PlanLimit.objects.bulk_create(
                PlanLimit(plan=plan, resource_type=resource, unit=unit, period=period, limit=limits[slug])
                for resource, unit, period, limits in LIMITS
            )


class Migration(migrations.Migration):
    dependencies = [("quotas", "0001_initial")]

    operations = [migrations.RunPython(seed, migrations.RunPython.noop)]
