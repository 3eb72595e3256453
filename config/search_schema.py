"""What the API schema says of searches, whose views DRF does not know."""

from __future__ import annotations

from typing import Any

from prompts.models import SearchDocument
from prompts.search.modes import Mode
from prompts.search_serializers import MOST_CHARACTERS, MOST_CHARACTERS_OF_A_DRAFT
from quotas import idempotency

Schema = dict[str, Any]

KIND: Schema = {"type": "string", "enum": SearchDocument.Kind.values}
TEXT: Schema = {"type": "string"}
TIME: Schema = {"type": "string", "format": "date-time"}
FOUND: Schema = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "format": "uuid", "description": "Of the prompt."},
        "kind": KIND,
        "title": TEXT,
        "highlight": {
            "type": "object",
            "description": "HTML: what was found stands in `<mark>`, and everything else is escaped.",
            "properties": {"title": TEXT, "text": TEXT},
        },
        "tags": {"type": "array", "items": TEXT},
        "is_own": {"type": "boolean"},
        "is_shared": {"type": "boolean"},
        "score": {"type": "number", "description": "The higher the better, in this search."},
        "similarity": {"type": "number", "nullable": True, "description": "Cosine; null where only words were found."},
        "created_at": TIME,
        "updated_at": TIME,
    },
}
HOW: Schema = {
    "mode_used": {"type": "string", "enum": [mode.value for mode in Mode]},
    "reason": {"type": "string", "nullable": True, "enum": ["embedding_unavailable", "not_embedded", None]},
    "results": {"type": "array", "items": FOUND},
}
LINK: Schema = {"type": "string", "format": "uri", "nullable": True}

PARAMETERS: tuple[tuple[str, Schema, str], ...] = (
    ("mode", {"type": "string", "enum": [mode.value for mode in Mode], "default": "hybrid"}, "How to compare."),
    ("kind", KIND, "Prompts of one kind."),
    ("tag", TEXT, "Prompts with a tag."),
    ("collection", {"type": "string", "format": "uuid"}, "Saved prompts of a collection."),
    ("is_favourite", {"type": "boolean"}, "The caller's own favourites, or all others."),
    ("intent", TEXT, "Of the history, prompts with an intent."),
    ("created_after", TIME, "Prompts that are younger."),
    ("cursor", TEXT, "Where the page before has ended."),
    ("limit", {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}, "How many at most."),
)


def add_searches(result: Schema, generator: object, request: object, public: bool) -> Schema:
    """A drf-spectacular post-processing hook."""
    result["paths"]["/api/v1/prompts/search"] = {"get": _search()}
    result["paths"]["/api/v1/prompts/suggestions"] = {"post": _suggestions()}
    return result


def _search() -> Schema:
    question = {"type": "string", "minLength": 1, "maxLength": MOST_CHARACTERS}
    asked = {"name": "q", "in": "query", "required": True, "schema": question, "description": "What to look for."}
    others = [
        {"name": name, "in": "query", "schema": schema, "description": description}
        for name, schema, description in PARAMETERS
    ]
    return _operation(
        "search_prompts",
        "Search prompts",
        "The history, saved prompts and templates that the caller may see, best first, by words, by meaning or by "
        "both. What is embedded for it is metered as the caller's, at most once an hour for a question. An API key "
        "needs the scope `prompts` or `read`.",
        {"next": LINK, "previous": LINK} | HOW,
    ) | {"parameters": [asked, *others]}


def _suggestions() -> Schema:
    text = {"type": "string", "minLength": 1, "maxLength": MOST_CHARACTERS_OF_A_DRAFT}
    limit = {"type": "integer", "minimum": 1, "maximum": 20, "default": 5}
    body = {"type": "object", "required": ["text"], "properties": {"text": text, "kind": KIND, "limit": limit}}
    return _operation(
        "suggest_prompts",
        "Suggest prompts",
        "Prompts that are like a draft, of those that the caller may see. Metered as a search is. An API key needs the "
        "scope `prompts`.",
        HOW,
    ) | {
        "parameters": [{"name": idempotency.HEADER, "in": "header", "schema": TEXT}],
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
    }


def _operation(name: str, summary: str, description: str, properties: Schema) -> Schema:
    answer = {"application/json": {"schema": {"type": "object", "properties": properties}}}
    return {
        "operationId": name,
        "summary": summary,
        "description": description,
        "tags": ["prompts"],
        "security": [{"bearer": []}],
        "responses": {"200": {"description": "What was found.", "content": answer}},
    }
