"""What happened: roll-ups, which dashboards and the API read instead of the rows they sum up."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q

from quotas.meters import Resource


class DailyStat(models.Model):
    """One day (UTC) of one model: how often it was called, how that ended, what it used."""

    id = models.BigAutoField(primary_key=True)
    day = models.DateField()
    request_type = models.CharField(max_length=20, choices=Resource.choices)
    model = models.CharField(max_length=100)
    requests = models.PositiveBigIntegerField(default=0)
    errors = models.PositiveBigIntegerField(default=0)
    input_tokens = models.PositiveBigIntegerField(default=0)
    output_tokens = models.PositiveBigIntegerField(default=0)
    cost = models.PositiveBigIntegerField(default=0, help_text="Micro-USD.")
    users = models.PositiveIntegerField(default=0, help_text="Different users who called.")

    class Meta:
        ordering = ("-day", "request_type", "model")
        verbose_name = "daily statistic"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["day", "request_type", "model"], name="dailystat_unique"),
            models.CheckConstraint(condition=Q(errors__lte=models.F("requests")), name="dailystat_errors_are_requests"),
        ]

    def __str__(self) -> str:
        return f"{self.day} {self.model}"
