"""What is searched: a document for each prompt, and its vectors. Triggers write the documents (migration 0007)."""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchVector, SearchVectorField
from django.db import models
from django.db.models import Exists, F, Func, OuterRef, Q, Value
from django.utils import timezone
from pgvector.django import HalfVectorField, HnswIndex

from accounts.ids import uuid7
from accounts.models import User
from prompts.models.history import PromptHistory
from prompts.models.intents import DIMENSIONS
from prompts.models.saved import SavedPrompt
from prompts.models.templates import PromptTemplate

# The parts of the index of vectors: what a new model makes stands in the one that is not searched.
SLOTS = (0, 1)
# These foreign keys and their cascades are made in migration 0007: Django would read and delete row by row what the
# database takes along with a prompt by itself.
IN_THE_DATABASE: dict[str, Any] = {"on_delete": models.DO_NOTHING, "db_constraint": False}


def words_in(field: str, weight: str, config: str) -> SearchVector:
    """The words of a field. Prompts like to stand in `<tags>`, which would else not count as words."""
    text = Func(F(field), Value("<>"), Value("  "), function="translate", output_field=models.TextField())
    return SearchVector(text, weight=weight, config=config)


class SearchDocumentQuerySet(models.QuerySet["SearchDocument"]):
    def visible_to(self, user_id: UUID) -> SearchDocumentQuerySet:
        """What the user may read, by the rules of the three tables that documents are made of."""
        owner_is_active = Exists(User.objects.filter(pk=OuterRef("owner_id"), is_active=True))
        is_shared = Q(is_shared=True) & (Q(kind=SearchDocument.Kind.TEMPLATE) | owner_is_active)
        return self.filter(Q(owner_id=user_id) | is_shared)


class SearchDocument(models.Model):
    """What a prompt says, as it is searched; its id is that of the prompt.

    `owner_id`, `is_shared` and the dates are the prompt's. Nothing but the triggers on the tables of prompts writes
    here, and the database removes a document together with its prompt. Words are indexed as they are, which finds
    names, numbers and any language, and by their English stems.
    """

    class Kind(models.TextChoices):
        HISTORY = "history", "History"
        SAVED = "saved", "Saved prompt"
        TEMPLATE = "template", "Template"

    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    kind = models.CharField(max_length=10, choices=Kind.choices)
    history = models.OneToOneField(PromptHistory, null=True, related_name="document", **IN_THE_DATABASE)
    saved = models.OneToOneField(SavedPrompt, null=True, related_name="document", **IN_THE_DATABASE)
    template = models.OneToOneField(PromptTemplate, null=True, related_name="document", **IN_THE_DATABASE)
    owner_id = models.UUIDField()
    is_shared = models.BooleanField(default=False)
    title = models.CharField(max_length=200, blank=True)
    body = models.TextField(blank=True)
    tags = ArrayField(models.CharField(max_length=50), default=list)
    tsv = models.GeneratedField(
        expression=words_in("title", "A", "simple")
        + words_in("title", "A", "english")
        + words_in("body", "B", "simple")
        + words_in("body", "B", "english"),
        output_field=SearchVectorField(),
        db_persist=True,
    )
    created_at = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(default=timezone.now)

    objects = SearchDocumentQuerySet.as_manager()

    class Meta:
        ordering = ("-id",)
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(kind__in=["history", "saved", "template"]), name="searchdocument_kind_known"
            ),
            models.CheckConstraint(
                condition=Q(kind="history", history=F("id"), saved=None, template=None)
                | Q(kind="saved", history=None, saved=F("id"), template=None)
                | Q(kind="template", history=None, saved=None, template=F("id")),
                name="searchdocument_of_one_prompt",
            ),
        ]
        indexes: ClassVar = [
            GinIndex(fields=["tsv"], name="searchdocument_tsv"),
            GinIndex(fields=["tags"], name="searchdocument_tags"),
            models.Index(fields=["owner_id", "-id"], name="searchdocument_owner"),
            models.Index(fields=["-id"], condition=Q(is_shared=True), name="searchdocument_shared"),
        ]

    def __str__(self) -> str:
        return self.title or self.body[:60]


class EmbeddingModelQuerySet(models.QuerySet["EmbeddingModel"]):
    def active_name(self) -> str:
        """The model by whose vectors texts are compared now; before there are any, the one of the settings."""
        name = self.filter(is_active=True).values_list("name", flat=True).first()
        return name or str(settings.EMBEDDING_MODEL)


class EmbeddingModel(models.Model):
    """A model whose vectors are kept: the active one, which embeds queries, and the one before or after it."""

    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=100, unique=True)
    slot = models.PositiveSmallIntegerField(unique=True)
    is_active = models.BooleanField(default=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    replaced_at = models.DateTimeField(null=True, help_text="Since when another one is active in its place.")

    objects = EmbeddingModelQuerySet.as_manager()

    class Meta:
        ordering = ("id",)
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(slot__in=SLOTS), name="embeddingmodel_slot_known"),
            models.CheckConstraint(condition=~Q(name=""), name="embeddingmodel_named"),
            models.CheckConstraint(
                condition=Q(is_active=False) | Q(replaced_at=None), name="embeddingmodel_active_or_replaced"
            ),
            models.UniqueConstraint(
                fields=["is_active"], condition=Q(is_active=True), name="embeddingmodel_one_active"
            ),
            # What the vectors point at, so that they stand in the slot of their model.
            models.UniqueConstraint(fields=["id", "slot"], name="embeddingmodel_slot_of_it"),
        ]

    def __str__(self) -> str:
        return self.name


class DocumentEmbeddingQuerySet(models.QuerySet["DocumentEmbedding"]):
    def waiting(self) -> DocumentEmbeddingQuerySet:
        return self.filter(embedding=None)


class DocumentEmbedding(models.Model):
    """The vector of a document by a model; without one it waits for a worker.

    The trigger that sees a new document makes a row for each model, and empties them when the document changes.
    """

    id = models.BigAutoField(primary_key=True)
    document = models.ForeignKey(SearchDocument, related_name="embeddings", db_index=False, **IN_THE_DATABASE)
    model = models.ForeignKey(EmbeddingModel, related_name="embeddings", db_index=False, **IN_THE_DATABASE)
    slot = models.PositiveSmallIntegerField()
    embedding = HalfVectorField(dimensions=DIMENSIONS, null=True)
    claimed_until = models.DateTimeField(null=True, help_text="A worker embeds it until then.")

    objects = DocumentEmbeddingQuerySet.as_manager()

    class Meta:
        ordering = ("id",)
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["document", "model"], name="documentembedding_unique"),
            models.CheckConstraint(condition=Q(slot__in=SLOTS), name="documentembedding_slot_known"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["model", "id"], condition=Q(embedding=None), name="documentembedding_waiting"),
            # One for each slot: vectors of two models in one graph would stand in each other's way.
            *(
                HnswIndex(
                    fields=["embedding"],
                    name=f"documentembedding_slot_{slot}",
                    opclasses=["halfvec_cosine_ops"],
                    m=16,
                    ef_construction=64,
                    condition=Q(slot=slot),
                )
                for slot in SLOTS
            ),
        ]

    def __str__(self) -> str:
        return f"{self.document_id} in slot {self.slot}"
