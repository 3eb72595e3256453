"""Prompts under a name: what they say in each version, and which version a label stands for."""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import OuterRef, Q, Subquery, Sum
from django.db.models.functions import Coalesce, Length
from django.db.models.lookups import LessThanOrEqual
from django.utils import timezone

from accounts.ids import uuid7

# A name is part of addresses and of includes; a label begins with a letter, so that a number is always a version.
NAME_PATTERN = "[a-z0-9][a-z0-9._-]{0,63}"
LABEL_PATTERN = "[a-z][a-z0-9_-]{0,63}"
DEFAULT_LABEL = "production"
MOST_DESCRIPTION = 5000


def protected_by_default() -> list[str]:
    return [DEFAULT_LABEL]


class PromptTemplateQuerySet(models.QuerySet["PromptTemplate"]):
    def alive(self) -> PromptTemplateQuerySet:
        return self.filter(deleted_at=None)

    def visible_to(self, user_id: UUID) -> PromptTemplateQuerySet:
        """The user's own, and those that are shared with everybody."""
        return self.alive().filter(Q(user_id=user_id) | Q(is_shared=True))

    def with_usage(self) -> PromptTemplateQuerySet:
        """With `usage_count`: how many calls have named the template, as of the last roll-up."""
        used = PromptUsage.objects.filter(version__template=OuterRef("pk")).order_by().values("version__template")
        return self.annotate(usage_count=Coalesce(Subquery(used.annotate(n=Sum("requests")).values("n")), 0))


class PromptTemplate(models.Model):
    """A name for a prompt. What it says is in its versions; who calls it says which by a label or a number.

    It belongs to a user; a shared one can be used by everybody, and changed by its owner. `latest_version` is the
    highest number that was given out. A deleted one stays for the history of the requests that it ran in, without
    labels, and its name is free again.
    """

    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="prompt_templates")
    name = models.CharField(max_length=64, validators=[RegexValidator(f"^{NAME_PATTERN}\\Z")])
    description = models.TextField(blank=True, max_length=MOST_DESCRIPTION)
    tags = ArrayField(models.CharField(max_length=50), default=list, blank=True)
    is_shared = models.BooleanField(default=False, help_text="Everybody can use it.")
    protected_labels = ArrayField(
        models.CharField(max_length=64),
        default=protected_by_default,
        blank=True,
        help_text="Labels that an API key moves only if it has the scope admin.",
    )
    latest_version = models.PositiveIntegerField(default=0, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(auto_now=True)
    deleted_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = PromptTemplateQuerySet.as_manager()

    class Meta:
        ordering = ("-id",)
        permissions: ClassVar = [("run_prompttemplate", "Can run prompt templates on models")]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["user", "name"], condition=Q(deleted_at=None), name="prompttemplate_name"),
            models.UniqueConstraint(
                fields=["name"], condition=Q(deleted_at=None, is_shared=True), name="prompttemplate_shared_name"
            ),
            models.CheckConstraint(condition=Q(name__regex=f"^{NAME_PATTERN}$"), name="prompttemplate_name_plain"),
            models.CheckConstraint(
                condition=LessThanOrEqual(Length("description"), MOST_DESCRIPTION),
                name="prompttemplate_description_short",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["user", "-id"], name="prompttemplate_user"),
            GinIndex(fields=["tags"], name="prompttemplate_tags"),
        ]

    def __str__(self) -> str:
        return self.name


class PromptVersion(models.Model):
    """What a template says, for good: the database refuses to change a row (trigger in migration 0003).

    `content` is one text, or a list of messages `{"role", "content"}`. `variables` declare what may stand in it, as
    `prompts.variables` reads them. `includes` are its references to others, `name@label`. `author_id` is a plain value:
    whoever that was may be merged or erased, and the version stays as it is. It goes only with a template that is
    deleted, when its owner is erased.
    """

    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    template = models.ForeignKey(PromptTemplate, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    content: models.JSONField[Any, Any] = models.JSONField()
    variables: models.JSONField[Any, Any] = models.JSONField(default=list)
    includes = ArrayField(models.CharField(max_length=130), default=list)
    commit_message = models.CharField(max_length=500, blank=True)
    author_id = models.UUIDField(null=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ("-id",)
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["template", "number"], name="promptversion_number_unique"),
            models.CheckConstraint(condition=Q(number__gte=1), name="promptversion_number_positive"),
        ]
        indexes: ClassVar = [models.Index(fields=["template", "-id"], name="promptversion_template")]

    def __str__(self) -> str:
        return f"version {self.number}"


class PromptLabelQuerySet(models.QuerySet["PromptLabel"]):
    def with_numbers(self) -> PromptLabelQuerySet:
        """With the numbers of their versions, but not with what those say."""
        return self.select_related("version").only("template_id", "name", "created_at", "moved_at", "version__number")


class PromptLabel(models.Model):
    """A name that stands for one version of a template, and may stand for another one tomorrow."""

    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    template = models.ForeignKey(PromptTemplate, on_delete=models.CASCADE, related_name="labels")
    name = models.CharField(max_length=64, validators=[RegexValidator(f"^{LABEL_PATTERN}\\Z")])
    version = models.ForeignKey(PromptVersion, on_delete=models.CASCADE, related_name="labels")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    moved_at = models.DateTimeField(default=timezone.now)

    objects = PromptLabelQuerySet.as_manager()

    class Meta:
        ordering = ("name",)
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["template", "name"], name="promptlabel_name_unique"),
            models.CheckConstraint(condition=Q(name__regex=f"^{LABEL_PATTERN}$"), name="promptlabel_name_plain"),
        ]

    def __str__(self) -> str:
        return self.name


class PromptUsage(models.Model):
    """One day (UTC) of one version: how often it ran, how that ended, what it used. Rolled up from the requests."""

    id = models.BigAutoField(primary_key=True)
    version = models.ForeignKey(PromptVersion, on_delete=models.CASCADE, related_name="usage")
    day = models.DateField()
    requests = models.PositiveBigIntegerField(default=0)
    errors = models.PositiveBigIntegerField(default=0)
    input_tokens = models.PositiveBigIntegerField(default=0)
    output_tokens = models.PositiveBigIntegerField(default=0)
    cost = models.PositiveBigIntegerField(default=0, help_text="Micro-USD.")
    processing_time = models.PositiveBigIntegerField(default=0, help_text="Milliseconds, of all calls together.")

    class Meta:
        ordering = ("-day", "version")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["version", "day"], name="promptusage_unique"),
            models.CheckConstraint(
                condition=Q(errors__lte=models.F("requests")), name="promptusage_errors_are_requests"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.day} {self.version}"
