"""What people want of a text: labelled examples, and the classifiers that were trained on them."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from django.conf import settings
from django.contrib.postgres.indexes import HashIndex
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone
from pgvector.django import HalfVectorField, HnswIndex

from accounts.ids import uuid7

# Those of the embedded encoder; other models are asked for vectors of this size.
DIMENSIONS = 512
# A pattern is a sentence or two; the index that keeps it unique holds no more.
MOST_CHARACTERS = 500
# What a text is called that is like none of the patterns.
UNKNOWN = "unknown"


class IntentPatternQuerySet(models.QuerySet["IntentPattern"]):
    def active(self) -> IntentPatternQuerySet:
        return self.filter(is_active=True)

    def embedded_by(self, model: str) -> IntentPatternQuerySet:
        """The active ones that have a vector of this embedding model."""
        return self.active().filter(embedding_model=model, embedding__isnull=False)

    def waiting_for(self, model: str) -> IntentPatternQuerySet:
        """The active ones that have yet to get a vector of this embedding model."""
        return self.active().filter(Q(embedding=None) | ~Q(embedding_model=model))


class IntentPattern(models.Model):
    """A text, and what somebody who writes it wants. It is embedded in the background."""

    class Source(models.TextChoices):
        STARTER = "starter", "Starter set"
        OPERATOR = "operator", "Operator"
        CORRECTION = "correction", "Correction"

    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    intent = models.CharField(
        max_length=60,
        validators=[
            RegexValidator(r"^[a-z][a-z0-9_]*\Z", "Small letters, digits and underscores, such as data_export.")
        ],
        help_text="Small letters, digits and underscores.",
    )
    text = models.CharField(max_length=MOST_CHARACTERS, help_text="What somebody may write who has this intent.")
    language = models.CharField(max_length=12, default="en", help_text="Such as en, de or pt-BR.")
    embedding = HalfVectorField(dimensions=DIMENSIONS, null=True, editable=False)
    embedding_model = models.CharField(max_length=100, blank=True, editable=False)
    claimed_until = models.DateTimeField(null=True, editable=False, help_text="A worker embeds it until then.")
    source = models.CharField(max_length=10, choices=Source.choices, default=Source.OPERATOR, editable=False)
    is_active = models.BooleanField(default=True, help_text="Whether it counts.")
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        editable=False,
        db_column="user_id",
        related_name="intent_patterns",
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    # By the clock of the database, which all processes share: what is cached and trained goes by it.
    updated_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = IntentPatternQuerySet.as_manager()

    class Meta:
        ordering = ("intent", "id")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["intent", "text"], name="intentpattern_unique"),
            models.CheckConstraint(
                condition=Q(source__in=["starter", "operator", "correction"]), name="intentpattern_source_known"
            ),
            models.CheckConstraint(
                condition=Q(intent__regex=r"^[a-z][a-z0-9_]*$"), name="intentpattern_intent_is_a_name"
            ),
            models.CheckConstraint(
                condition=~Q(intent=UNKNOWN) & ~Q(text=""), name="intentpattern_says_what_is_wanted"
            ),
            models.CheckConstraint(
                condition=Q(embedding=None) | ~Q(embedding_model=""), name="intentpattern_model_of_its_embedding"
            ),
        ]
        indexes: ClassVar = [
            HnswIndex(
                fields=["embedding"],
                name="intentpattern_embedding",
                opclasses=["halfvec_cosine_ops"],
                m=16,
                ef_construction=64,
                condition=Q(is_active=True),
            ),
            models.Index(fields=["-updated_at"], name="intentpattern_updated_at"),
            HashIndex(fields=["text"], name="intentpattern_text"),
        ]

    def __str__(self) -> str:
        return f"{self.intent}: {self.text[:60]}"


class IntentClassifier(models.Model):
    """One training: what was asked for, how far it is, and in the end the weights, which one row serves with."""

    class Status(models.TextChoices):
        PENDING = "pending", "Waiting for a worker"
        TRAINING = "training", "Being trained"
        READY = "ready", "Trained"
        FAILED = "failed", "Failed"

    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    version = models.PositiveIntegerField(unique=True)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.PENDING)
    progress = models.PositiveSmallIntegerField(default=0, help_text="Percent.")
    error = models.TextField(blank=True)
    is_active = models.BooleanField(default=False, help_text="Whether texts are classified with it.")
    embedding_model = models.CharField(max_length=100, blank=True)
    pattern_count = models.PositiveIntegerField(default=0)
    patterns_changed_at = models.DateTimeField(null=True, help_text="The latest change that it has learned.")
    classes = models.JSONField(default=list)
    # NumPy's own format without objects: nothing in it can be run.
    weights = models.BinaryField(null=True)
    # Rows of another than `learned.FORMAT` are not read. 1 was a linear classifier of vectors alone.
    weights_format = models.PositiveSmallIntegerField(db_default=1, editable=False)
    calibration = models.JSONField(default=dict)
    metrics = models.JSONField(default=dict)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    started_at = models.DateTimeField(null=True)
    trained_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ("-version",)
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(status__in=["pending", "training", "ready", "failed"]), name="intentclassifier_status_known"
            ),
            models.CheckConstraint(
                condition=Q(is_active=False) | Q(status="ready"), name="intentclassifier_active_is_ready"
            ),
            models.CheckConstraint(
                condition=~Q(status="ready") | Q(weights__isnull=False, trained_at__isnull=False),
                name="intentclassifier_ready_has_weights",
            ),
            models.CheckConstraint(condition=Q(progress__lte=100), name="intentclassifier_progress_is_percent"),
            models.UniqueConstraint(
                fields=["is_active"], condition=Q(is_active=True), name="intentclassifier_one_active"
            ),
            models.UniqueConstraint(
                fields=["status"],
                condition=Q(status__in=["pending", "training"]),
                name="intentclassifier_one_at_a_time",
            ),
        ]

    def __str__(self) -> str:
        return f"version {self.version}"
