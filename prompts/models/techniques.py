"""Ways to ask a model better: what each adds to a prompt, and what has come of it."""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

from django.core.validators import RegexValidator
from django.db import models
from django.db.models import F, FilteredRelation, Q
from django.utils import timezone

from accounts.ids import uuid7

SLUG_PATTERN = "[a-z][a-z0-9_]{0,59}"


class TechniqueQuerySet(models.QuerySet["Technique"]):
    def active(self) -> TechniqueQuerySet:
        return self.filter(is_active=True)

    def with_template(self) -> TechniqueQuerySet:
        """With `template` and `parameters`, as the latest version says them."""
        latest = FilteredRelation("versions", condition=Q(versions__number=F("latest_version")))
        return self.annotate(latest=latest, template=F("latest__template"), parameters=F("latest__parameters"))


class Technique(models.Model):
    """A way to ask. What it adds to a prompt is in its versions, of which the latest is used."""

    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    slug = models.CharField(
        max_length=60,
        unique=True,
        validators=[RegexValidator(f"^{SLUG_PATTERN}\\Z", "Small letters, digits and underscores, such as few_shot.")],
        help_text="The name that callers write: small letters, digits and underscores.",
    )
    title = models.CharField(max_length=100)
    description = models.TextField(help_text="What it does to a prompt.")
    when_it_helps = models.TextField(blank=True)
    source_title = models.CharField(max_length=300, blank=True, help_text="The paper or guide that it comes from.")
    source_url = models.URLField("source URL", max_length=500, blank=True)
    group = models.CharField(
        max_length=60,
        blank=True,
        help_text="Of the techniques of one group, at most one is chosen for a prompt. Empty: it goes with any.",
    )
    position = models.PositiveSmallIntegerField(
        default=50, help_text="Lowest first: each puts its text around what those before it have made."
    )
    is_active = models.BooleanField(default=True)
    latest_version = models.PositiveIntegerField(default=0, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(auto_now=True)

    objects = TechniqueQuerySet.as_manager()

    class Meta:
        ordering = ("position", "slug")
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(slug__regex=f"^{SLUG_PATTERN}$"), name="technique_slug_is_a_name"),
            models.CheckConstraint(condition=~Q(title=""), name="technique_has_a_title"),
        ]

    def __str__(self) -> str:
        return self.title


class TechniqueVersion(models.Model):
    """What a technique adds, for good: the database refuses to change a row (trigger in migration 0005).

    `template` is in the markup of prompt templates, without includes. `{{ prompt }}` stands in it once, for the text
    that is to be improved; `parameters` declare the other variables, as `prompts.variables` reads them, each with a
    default or not required. `author_id` is a plain value: whoever that was may be merged or erased.
    """

    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    technique = models.ForeignKey(Technique, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    template = models.TextField()
    parameters: models.JSONField[Any, Any] = models.JSONField(default=list, blank=True)
    author_id = models.UUIDField(null=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ("-id",)
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["technique", "number"], name="techniqueversion_number_unique"),
            models.CheckConstraint(condition=Q(number__gte=1), name="techniqueversion_number_positive"),
        ]

    def __str__(self) -> str:
        return f"version {self.number}"


class EffectivenessQuerySet(models.QuerySet["TechniqueEffectiveness"]):
    def with_techniques(self) -> EffectivenessQuerySet:
        """By intent, and of each intent by technique."""
        return self.select_related("technique").order_by("intent", "technique__slug")


class TechniqueEffectiveness(models.Model):
    """What has come of a technique for one intent: sums, changed in the same transaction as what they sum up.

    Each prompt that somebody has judged adds one to `successes` and `failures` together, shared out by how good the
    judgement is (`prompts.enhance.rewards`).
    """

    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    intent = models.CharField(max_length=60)
    technique = models.ForeignKey(Technique, on_delete=models.CASCADE, related_name="effectiveness")
    shown = models.PositiveBigIntegerField(default=0, help_text="Prompts that were improved with it.")
    used = models.PositiveBigIntegerField(
        default=0, help_text="Of those that count, the ones that somebody says to have used."
    )
    successes = models.DecimalField(max_digits=16, decimal_places=2, default=0)
    failures = models.DecimalField(max_digits=16, decimal_places=2, default=0)
    rating_count = models.PositiveBigIntegerField(default=0)
    rating_sum = models.PositiveBigIntegerField(default=0)
    updated_at = models.DateTimeField(default=timezone.now)

    objects = EffectivenessQuerySet.as_manager()

    class Meta:
        ordering = ("intent", "technique")
        verbose_name_plural = "technique effectiveness"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["intent", "technique"], name="techniqueeffectiveness_unique"),
            models.CheckConstraint(
                condition=Q(successes__gte=0, failures__gte=0), name="techniqueeffectiveness_not_negative"
            ),
            models.CheckConstraint(
                condition=Q(used__lte=F("shown"), rating_count__lte=F("shown"))
                & Q(shown__gte=F("successes") + F("failures")),
                name="techniqueeffectiveness_of_those_shown",
            ),
            models.CheckConstraint(
                condition=Q(rating_sum__gte=F("rating_count"), rating_sum__lte=F("rating_count") * 5),
                name="techniqueeffectiveness_rated_one_to_five",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.technique} for {self.intent}"
