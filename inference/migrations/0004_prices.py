import django.core.validators
import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models

import accounts.ids
import inference.models

UNITS = {"input_price": "input_tokens", "output_price": "output_tokens"}


def move_to_rows(apps, schema_editor):
    """What a model took for tokens, it has taken since it was there."""
    Model, Price = apps.get_model("inference", "Model"), apps.get_model("inference", "Price")
    Price.objects.bulk_create(
        Price(model=model, unit=unit, price=getattr(model, column), valid_from=model.created_at.replace(microsecond=0))
        for model in Model.objects.all()
        for column, unit in UNITS.items()
        if getattr(model, column)
    )


def move_to_columns(apps, schema_editor):
    """The prices that are valid now; other units, and what was and will be, are lost."""
    Model, Price = apps.get_model("inference", "Model"), apps.get_model("inference", "Price")
    valid = Price.objects.filter(valid_from__lte=django.utils.timezone.now()).order_by("valid_from")
    for column, unit in UNITS.items():
        for price in valid.filter(unit=unit):
            Model.objects.filter(pk=price.model_id).update(**{column: price.price})


class Migration(migrations.Migration):
    dependencies = [("inference", "0003_content_permission")]

    operations = [
        migrations.CreateModel(
            name="Price",
            fields=[
                ("id", models.UUIDField(default=accounts.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                (
                    "unit",
                    models.CharField(
                        choices=[
                            ("input_tokens", "Input tokens"),
                            ("cached_input_tokens", "Cached input tokens"),
                            ("output_tokens", "Output tokens"),
                            ("characters", "Characters"),
                            ("seconds", "Seconds"),
                            ("requests", "Requests"),
                        ],
                        max_length=20,
                    ),
                ),
                (
                    "price",
                    models.BigIntegerField(
                        help_text="Micro-USD for a million units: $0.15 for a million tokens is 150,000; $0.006 for a "
                        "minute of speech is 100 micro-USD a second, which is 100,000,000.",
                        validators=[
                            django.core.validators.MinValueValidator(0),
                            django.core.validators.MaxValueValidator(10**15),
                        ],
                    ),
                ),
                (
                    "valid_from",
                    models.DateTimeField(
                        default=inference.models.this_second, help_text="UTC. Until the next price for this unit."
                    ),
                ),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                (
                    "model",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="prices", to="inference.model"
                    ),
                ),
            ],
            options={
                "ordering": ("model", "unit", "valid_from"),
                "constraints": [
                    models.UniqueConstraint(fields=("model", "unit", "valid_from"), name="price_instant_unique"),
                    models.CheckConstraint(
                        condition=models.Q(
                            unit__in=[
                                *("input_tokens", "cached_input_tokens", "output_tokens"),
                                *("characters", "seconds", "requests"),
                            ]
                        ),
                        name="price_unit_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("price__gte", 0), ("price__lte", 10**15)), name="price_in_range"
                    ),
                ],
            },
        ),
        migrations.RunPython(move_to_rows, move_to_columns),
        migrations.RemoveConstraint(model_name="model", name="model_prices_not_negative"),
        migrations.RemoveField(model_name="model", name="input_price"),
        migrations.RemoveField(model_name="model", name="output_price"),
        migrations.AddField(
            model_name="request",
            name="cached_input_tokens",
            field=models.PositiveIntegerField(
                default=0, help_text="Of the input tokens, those that the provider had in its cache."
            ),
        ),
    ]
