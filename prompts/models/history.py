"""The prompts that were improved for people, and what they said of the result."""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import ExpressionWrapper, Q
from django.db.models.functions import Left, Length
from django.utils import timezone

from accounts.ids import uuid7
from inference.models import Request


class PromptHistoryQuerySet(models.QuerySet["PromptHistory"]):
    def of_user(self, user_id: UUID) -> PromptHistoryQuerySet:
        return self.filter(user_id=user_id)

    def beginnings(self, characters: int) -> PromptHistoryQuerySet:
        """For lists: `original_begin`, `enhanced_begin`, and whether one of them `is_cut`; the whole is not read."""
        is_cut = Q(original_length__gt=characters) | Q(enhanced_length__gt=characters)
        return self.defer("original", "enhanced").annotate(
            original_length=Length("original"),
            enhanced_length=Length("enhanced"),
            original_begin=Left("original", characters),
            enhanced_begin=Left("enhanced", characters),
            is_cut=ExpressionWrapper(is_cut, output_field=models.BooleanField()),
        )

    def with_technique(self, slug: str) -> PromptHistoryQuerySet:
        return self.filter(techniques__contains=[{"name": slug}])


class PromptHistory(models.Model):
    """One prompt: what somebody wrote, what became of it, why, and how good that was.

    `techniques` are those that were applied, in order: `{"name", "version", "reason", "score"}`. `seed` draws the same
    ones again from the same figures. `model` and `request` are there if a model rewrote the prompt. `is_experiment` is
    whether the intent and the techniques were nobody's choice but ours, and `counted` the techniques whose figures hold
    what was said of the result.
    """

    class Thumbs(models.TextChoices):
        UP = "up", "Up"
        DOWN = "down", "Down"

    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="prompt_history")
    original = models.TextField()
    enhanced = models.TextField()
    intent = models.CharField(max_length=60)
    confidence = models.FloatField(help_text="Of the intent, from 0 to 1.")
    techniques: models.JSONField[Any, Any] = models.JSONField(default=list)
    seed = models.BigIntegerField(null=True)
    model = models.CharField(max_length=100, blank=True)
    is_experiment = models.BooleanField(default=False)
    counted = ArrayField(models.CharField(max_length=60), default=list, blank=True)
    request = models.ForeignKey(
        Request, on_delete=models.SET_NULL, null=True, blank=True, related_name="enhanced_prompts"
    )
    rating = models.PositiveSmallIntegerField(null=True, blank=True, help_text="From 1 to 5.")
    thumbs = models.CharField(max_length=4, choices=Thumbs.choices, blank=True)
    comment = models.TextField(blank=True)
    used_it = models.BooleanField(null=True, blank=True, help_text="Whether the improved prompt was used.")
    feedback_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = PromptHistoryQuerySet.as_manager()

    class Meta:
        ordering = ("-id",)
        verbose_name_plural = "prompt history"
        constraints: ClassVar = [
            models.CheckConstraint(condition=~Q(original="") & ~Q(enhanced=""), name="prompthistory_not_empty"),
            models.CheckConstraint(
                condition=Q(confidence__gte=0, confidence__lte=1), name="prompthistory_confidence_is_a_share"
            ),
            models.CheckConstraint(
                condition=Q(rating=None) | Q(rating__gte=1, rating__lte=5), name="prompthistory_rating_one_to_five"
            ),
            models.CheckConstraint(
                condition=Q(counted=[]) | Q(is_experiment=True), name="prompthistory_only_experiments_count"
            ),
            models.CheckConstraint(condition=Q(thumbs__in=["up", "down", ""]), name="prompthistory_thumbs_known"),
            models.CheckConstraint(
                condition=Q(feedback_at__isnull=False) | Q(rating=None, thumbs="", comment="", used_it=None),
                name="prompthistory_feedback_has_a_time",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["user", "-id"], name="prompthistory_user"),
            models.Index(fields=["intent", "-id"], name="prompthistory_intent"),
            models.Index(fields=["user", "intent"], condition=~Q(counted=[]), name="prompthistory_counted"),
            GinIndex(fields=["techniques"], name="prompthistory_techniques", opclasses=["jsonb_path_ops"]),
        ]

    def __str__(self) -> str:
        return self.original[:60]
