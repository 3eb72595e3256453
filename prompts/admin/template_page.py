"""What is drawn under a template: a version, what changed in it, and how often each ran and what that took."""

from __future__ import annotations

from typing import Any

from django.db.models import F, Sum
from django.http import QueryDict
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from accounts.admin.display import EMPTY, label, link_to_list
from prompts.admin.usage_charts import usage_charts
from prompts.diffs import compare, lines_of
from prompts.exceptions import TemplateError
from prompts.models import PromptTemplate, PromptVersion
from quotas.admin.display import dollars, moment

MOST_VERSIONS = 50
KINDS = {"+": "added", "-": "removed", "@": "place"}


def page_context(template: PromptTemplate, query: QueryDict) -> dict[str, Any]:
    """`query` may name two versions, `from` and `to`; else the last one is compared with the one before."""
    versions = list(
        template.versions.defer("content", "variables")
        .prefetch_related("labels")
        .annotate(
            calls=Sum("usage__requests"),
            failed=Sum("usage__errors"),
            tokens=Sum(F("usage__input_tokens") + F("usage__output_tokens")),
            paid=Sum("usage__cost"),
            milliseconds=Sum("usage__processing_time"),
        )
        # Django leaves out the usual order where rows are summed up.
        .order_by("-number")[:MOST_VERSIONS]
    )
    if not versions:
        return {"versions": None}
    latest = versions[0].number
    new = _chosen(template, query.get("to"), latest)
    old = _chosen(template, query.get("from"), max(1, new.number - 1))
    return {
        "versions": {"headers": HEADERS, "rows": [_row(version) for version in versions]},
        "numbers": [version.number for version in versions],
        "is_cut": len(versions) == MOST_VERSIONS,
        "old": old.number,
        "new": new.number,
        "heading": f"Version {new.number}",
        "text": "\n".join(lines_of(new)),
        **changes_between(old, new),
        "charts": usage_charts(versions),
    }


HEADERS = [
    "Version",
    "Labels",
    "Commit message",
    "Made",
    "Calls",
    "Failed",
    "Tokens",
    "Cost",
    "Cost of a call",
    "Time of a call",
]


def _row(version: PromptVersion) -> list[Any]:
    calls = getattr(version, "calls", None) or 0
    show = format_html(
        '<a class="text-link" href="?from={}&amp;to={}#changes">{}</a>',
        max(1, version.number - 1),
        version.number,
        version.number,
    )
    row = [show, _labels(version), version.commit_message or EMPTY, moment(version.created_at)]
    if not calls:
        return [*row, "0", *[EMPTY] * 5]
    failed, tokens, paid, milliseconds = (
        getattr(version, name) for name in ("failed", "tokens", "paid", "milliseconds")
    )
    return [
        *row,
        link_to_list(f"{calls:,}", "inference_request", prompt_version_id__exact=version.pk),
        f"{100 * failed / calls:.1f} %",
        f"{tokens:,}",
        dollars(paid),
        dollars(round(paid / calls)),
        f"{milliseconds / calls:,.0f} ms",
    ]


def _labels(version: PromptVersion) -> SafeString | str:
    return format_html_join(" ", "{}", ((label(row.name, "success"),) for row in version.labels.all())) or EMPTY


def _chosen(template: PromptTemplate, wanted: str | None, otherwise: int) -> PromptVersion:
    number = int(wanted) if wanted and wanted.isdecimal() and len(wanted) < 10 else otherwise
    return template.versions.filter(number=number).first() or template.versions.get(number=otherwise)


def changes_between(old: PromptVersion, new: PromptVersion) -> dict[str, Any]:
    """`changes`, kinds and lines for a `<pre class="diff">`, or a `note` that says why there are none."""
    try:
        unified = compare(old, new).unified.split("\n")
    except TemplateError as refusal:
        return {"changes": [], "note": str(refusal)}
    # The first two lines name the versions, as the heading does.
    lines = [(KINDS.get(line[:1], "same"), line) for line in unified[2:]]
    return {"changes": lines, "note": "" if lines else "Nothing is different."}
