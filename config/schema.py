"""What the API schema says beyond what DRF's views tell by themselves: scopes, and the OpenAI-compatible surface."""

from __future__ import annotations

from typing import Any, cast

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiParameter

from accounts.people import HEADER
from accounts.scopes import Scope
from prompts.models.templates import LABEL_PATTERN, NAME_PATTERN
from quotas import idempotency

Schema = dict[str, Any]

ANYTHING: Schema = {"type": "object", "additionalProperties": True}


ON_BEHALF_OF = OpenApiParameter(
    HEADER,
    str,
    OpenApiParameter.HEADER,
    description="Whom a key with the scope `act-as` acts for: `channel:id`, such as `discord:1234`, or a user's id.",
)

IDEMPOTENCY_KEY = OpenApiParameter(
    idempotency.HEADER,
    str,
    OpenApiParameter.HEADER,
    description="Makes the call safe to repeat: the same key and body get the same answer, and are charged once.",
)


PROMPT: Schema = {
    "type": "object",
    "description": "A prompt template, by its name, and a label or a version of it; without one, `production`.",
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "pattern": f"^{NAME_PATTERN}$"},
        "label": {"type": "string", "nullable": True, "pattern": f"^({LABEL_PATTERN})?$"},
        "version": {"type": "integer", "nullable": True, "minimum": 1},
        "variables": {"type": "object", "nullable": True, "additionalProperties": True},
    },
    "additionalProperties": False,
}

CLASSIFIED: Schema = {
    "description": "What the text wants.",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "properties": {
                    "intent": {"type": "string"},
                    "confidence": {"type": "number", "minimum": 0, "maximum": 1},
                    "is_unknown": {"type": "boolean"},
                    "method": {"type": "string", "enum": ["example", "blend", "words"]},
                    "is_fallback": {"type": "boolean"},
                    "fallback_reason": {
                        "type": "string",
                        "nullable": True,
                        "enum": ["not_trained", "embedding_unavailable", None],
                    },
                    "candidates": {"type": "array", "items": ANYTHING},
                    "nearest": {"type": "array", "items": ANYTHING},
                    "classifier_version": {"type": "integer", "nullable": True},
                },
            }
        }
    },
}


ENHANCED: Schema = {
    "description": "The improved prompt, or with `stream` server-sent events: first one that is called `enhancement` "
    "and says all but `enhanced` and `usage`, then those of a chat completion.",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "properties": {
                    "id": {"type": "string", "format": "uuid"},
                    "original": {"type": "string"},
                    "enhanced": {"type": "string"},
                    "intent": {"type": "string"},
                    "confidence": {"type": "number", "minimum": 0, "maximum": 1},
                    "is_unknown": {"type": "boolean"},
                    "method": {"type": "string", "enum": ["example", "blend", "words", "given"]},
                    "is_fallback": {"type": "boolean"},
                    "fallback_reason": {
                        "type": "string",
                        "nullable": True,
                        "enum": ["not_trained", "embedding_unavailable", "quota_exceeded", None],
                    },
                    "techniques": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "properties": {
                                "name": {"type": "string"},
                                "version": {"type": "integer"},
                                "reason": {"type": "string"},
                                "score": {"type": "number", "nullable": True},
                            },
                        },
                    },
                    "seed": {"type": "integer", "nullable": True},
                    "model": {"type": "string", "nullable": True},
                    "usage": ANYTHING | {"nullable": True},
                },
            }
        },
        "text/event-stream": {"schema": {"type": "string"}},
    },
}


def _reply() -> Schema:
    operation = _operation(
        "Reply",
        "Say something in a conversation and have it answered: as a chat completion with `conversation_id`, "
        "`user_message_id` and `message_id`, or with `stream: true` as server-sent events, of which the first, "
        "`message_ids`, names them. Sent again with the same `client_message_id` or Idempotency-Key, it is answered "
        "once. Without `content`, what is at the end of the branch is answered, such as the result of a tool. "
        "An API key needs the scope `inference`.",
        required=["content"],
        content={"type": "string", "nullable": True, "example": "What is a ring?"},
        client_message_id={"type": "string", "maxLength": 100},
        model={"type": "string", "description": "Else the conversation's, the user's or the channel's."},
        stream={"type": "boolean"},
        temperature={"type": "number"},
        top_p={"type": "number"},
        max_tokens={"type": "integer"},
        tools={"type": "array", "items": ANYTHING},
    )
    return _in_conversation(operation, "reply", "id")


def _regenerate() -> Schema:
    operation = _operation(
        "Regenerate",
        "Another answer beside one that is there, which stays on a branch of its own. Answered as a reply is. "
        "An API key needs the scope `inference`.",
        required=[],
        model={"type": "string"},
        stream={"type": "boolean"},
    )
    return _in_conversation(operation, "regenerate", "id", "message_id")


def _channel_message() -> Schema:
    operation = _operation(
        "Bring a message from a channel",
        "One call for a bot: with an API key with the scope `act-as` and X-On-Behalf-Of, such as `telegram:1234`, the "
        "person is found, or made on first sight; their open conversation on the channel goes on, or one is begun; and "
        "what they say is answered as a reply is, with `welcome` beside the ids if it is their first. An update that a "
        "platform delivers again with the same `client_message_id` is answered once. An error may have a `text` beside "
        "its message, for the bot to show. An API key needs the scope `inference`.",
        required=["content"],
        content={"type": "string", "example": "What is a ring?"},
        client_message_id={"type": "string", "maxLength": 100, "description": "Such as the id of the update."},
        new={"type": "boolean", "description": "Begin a new conversation."},
        username={"type": "string", "maxLength": 255, "description": "What the person is called on the channel."},
        model={"type": "string", "description": "Else the conversation's, the user's or the channel's."},
        stream={"type": "boolean"},
    )
    name = {"name": "name", "in": "path", "required": True, "schema": {"type": "string", "example": "telegram"}}
    behalf = {"name": HEADER, "in": "header", "description": ON_BEHALF_OF.description, "schema": {"type": "string"}}
    parameters = [name, behalf, *operation.get("parameters", [])]
    return operation | {"operationId": "channel_message", "tags": ["channels"], "parameters": parameters}


def _live_events() -> Schema:
    operation = _operation(
        "Listen to one's conversations",
        "Server-sent events of what happens in the caller's conversations from now on: `message.created` (`id`, "
        "`conversation_id`, `role`, `sequence`), `conversation.created`, `conversation.updated` and "
        "`conversation.deleted` (`conversation_id`). A comment every 15 seconds shows that it is alive; `error` ends "
        "it. What happens while nobody listens is not told later. An API key needs the scope `conversations` or "
        "`read`.",
    )
    responses = {"200": {"description": "A stream.", "content": {"text/event-stream": {"schema": {"type": "string"}}}}}
    return operation | {"operationId": "conversation_events", "tags": ["conversations"], "responses": responses}


def _in_conversation(operation: Schema, called: str, *ids: str) -> Schema:
    uuid = {"in": "path", "required": True, "schema": {"type": "string", "format": "uuid"}}
    parameters = [*({"name": name, **uuid} for name in ids), *operation.get("parameters", [])]
    return operation | {"operationId": called, "tags": ["conversations"], "parameters": parameters}


class ScopedSchema(AutoSchema):
    """Says of each operation which scope a key needs for it, and which need no credential."""

    def get_auth(self) -> list[dict[str, Any]]:
        auths: list[dict[str, Any]] = super().get_auth()
        return [*auths, {}] if self._scope() is None and {} not in auths else auths

    def get_override_parameters(self) -> list[Any]:
        action = getattr(self.view, getattr(self.view, "action", None) or "", None)
        return [
            *([] if self._scope() is None else [ON_BEHALF_OF]),
            *([IDEMPOTENCY_KEY] if getattr(action, "is_idempotent", False) else []),
        ]

    def get_description(self) -> str:  # type: ignore[override]
        described: str = super().get_description() or ""
        scope = self._scope()
        if scope is None:
            return described
        is_read = self.method == "GET" and scope is not Scope.READ and getattr(self.view, "read_suffices", True)
        needed = f"`{scope}` or `read`" if is_read else f"`{scope}`"
        return f"{described}\n\nAn API key needs the scope {needed}.".strip()

    def _scope(self) -> Scope | None:
        return cast("Scope | None", getattr(self.view, "scope", None))


def add_openai_surface(result: Schema, generator: object, request: object, public: bool) -> Schema:
    """A drf-spectacular post-processing hook."""
    result["paths"] |= {
        "/v1/models": {"get": _operation("List models", "Every model that can be called.")},
        "/v1/models/{model}": {
            "get": _operation("Find a model", "One model, by its public name.")
            | {"parameters": [{"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}]}
        },
        "/v1/chat/completions": {
            "post": _operation(
                "Chat",
                "A chat completion, as OpenAI's clients ask for it; `stream: true` answers server-sent events. "
                "Parameters that are not named here reach the model untouched. "
                "`metadata.conversation_id` (or the header "
                "X-Conversation-ID) keeps the exchange in a conversation. `prompt` names a prompt template instead of "
                "`messages`; one of the two is needed.",
                required=["model"],
                model={"type": "string", "example": "smollm2"},
                messages={"type": "array", "items": ANYTHING, "example": [{"role": "user", "content": "Say hello."}]},
                prompt=PROMPT,
                stream={"type": "boolean"},
                stream_options=ANYTHING,
                max_completion_tokens={"type": "integer"},
                n={"type": "integer"},
                tools={"type": "array", "items": ANYTHING},
                metadata=ANYTHING,
            )
        },
        "/v1/embeddings": {
            "post": _operation(
                "Embed",
                "Vectors for a text, a list of texts, or lists of tokens.",
                required=["model", "input"],
                model={"type": "string", "example": "use-multilingual"},
                input={"example": "Some text."},
                encoding_format={"type": "string", "enum": ["float", "base64"]},
            )
        },
    }
    result["paths"]["/api/v1/prompts/classify"] = {
        "post": _operation(
            "Classify a prompt",
            "What the writer of a text wants, how sure that is, and the nearest patterns. `intent` is `unknown` where "
            "no intent is likely enough; `is_fallback` says that only words were compared. What is embedded for it is "
            "metered as the caller's. An API key needs the scope `prompts`.",
            required=["text"],
            text={"type": "string", "minLength": 1, "maxLength": 10000, "example": "Why does this loop never end?"},
        )
        | {"operationId": "classify_prompt", "tags": ["prompts"], "responses": {"200": CLASSIFIED}}
    }
    result["paths"]["/api/v1/prompts/enhance"] = {
        "post": _operation(
            "Enhance a prompt",
            "A better prompt: techniques that have worked for its intent are chosen and applied. With `use_llm` a "
            "model writes one text of it, metered as the caller's. The result is kept in the history, where it can be "
            "judged. An API key needs the scope `prompts`.",
            required=["prompt"],
            prompt={"type": "string", "minLength": 1, "maxLength": 50000, "example": "Why does this loop never end?"},
            techniques={"type": "array", "items": {"type": "string"}, "description": "Chosen if none is named."},
            parameters=ANYTHING | {"description": "By technique.", "example": {"role": {"role": "a chemist"}}},
            intent={"type": "string", "description": "Found out if it is not named."},
            max_techniques={"type": "integer", "minimum": 1, "maximum": 6, "default": 3},
            seed={"type": "integer", "minimum": 0, "description": "Draws the same techniques from the same figures."},
            use_llm={"type": "boolean"},
            model={"type": "string", "description": "The caller's preferred model if none is named."},
            stream={"type": "boolean"},
        )
        | {"operationId": "enhance_prompt", "tags": ["prompts"], "responses": {"200": ENHANCED}}
    }
    result["paths"] |= {
        "/api/v1/conversations/{id}/reply": {"post": _reply()},
        "/api/v1/conversations/{id}/messages/{message_id}/regenerate": {"post": _regenerate()},
        "/api/v1/channels/{name}/messages": {"post": _channel_message()},
        "/api/v1/conversations/events": {"get": _live_events()},
    }
    return result


def _operation(summary: str, description: str, required: list[str] | None = None, **properties: Schema) -> Schema:
    operation: Schema = {
        "operationId": f"openai_{summary.lower().replace(' ', '_')}",
        "summary": summary,
        "description": description,
        "tags": ["v1"],
        "security": [{"bearer": []}],
        "responses": {"200": {"description": "As OpenAI's.", "content": {"application/json": {"schema": ANYTHING}}}},
    }
    if required is not None:
        described = IDEMPOTENCY_KEY.description
        key = {"name": idempotency.HEADER, "in": "header", "description": described, "schema": {"type": "string"}}
        operation["parameters"] = [key]
        body: Schema = {"type": "object", "properties": properties, "additionalProperties": True}
        body |= {"required": required} if required else {}
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    return operation
