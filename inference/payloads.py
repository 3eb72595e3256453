"""Bodies of AI calls: reading them strictly, estimating their tokens, keeping a bounded copy."""

from __future__ import annotations

from typing import Any

import orjson
from django.conf import settings

from accounts.exceptions import InvalidInput
from inference.exceptions import BodyTooLarge, InvalidJson

# Byte-pair vocabularies average about four bytes of English a token; three leaves room for other languages.
BYTES_PER_TOKEN = 3
# Role markers and separators that chat templates add to each message.
TOKENS_PER_MESSAGE = 8


def parse_json(body: bytes) -> Any:
    """The value in `body`. Raises `InvalidInput` when it is too large, malformed, too deep or holds NUL characters."""
    if len(body) > settings.MAX_BODY_BYTES:
        raise BodyTooLarge
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidJson(f"The request body is not valid JSON: {error.msg}.") from None
    if body.count(b"{") + body.count(b"[") > settings.MAX_JSON_DEPTH:
        check_depth(value, settings.MAX_JSON_DEPTH)
    if b"\\u0000" in body:
        check_nul(value)
    return value


def parse_object(body: bytes) -> dict[str, Any]:
    value = parse_json(body)
    if not isinstance(value, dict):
        raise InvalidInput("The request body must be a JSON object.", code="invalid_type")
    return value


def check_depth(value: Any, most: int) -> None:
    level = [value]
    for _ in range(most + 1):
        level = [
            child
            for node in level
            if isinstance(node, dict | list)
            for child in (node.values() if isinstance(node, dict) else node)
        ]
        if not level:
            return
    raise InvalidInput(f"The JSON is nested deeper than {most} levels.", code="json_too_deep")


def check_nul(value: Any) -> None:
    stack = [value]
    while stack:
        node = stack.pop()
        if isinstance(node, str) and "\0" in node:
            raise InvalidInput("Text must not contain NUL characters.", code="nul_character")
        if isinstance(node, dict):
            stack.extend(node.keys())
            stack.extend(node.values())
        elif isinstance(node, list):
            stack.extend(node)


def estimate_tokens(text: str | bytes) -> int:
    """About how many tokens a text has, rounded up, for holds and for streams that broke before their usage."""
    size = len(text if isinstance(text, bytes) else text.encode("utf-8", "replace"))
    return -(-size // BYTES_PER_TOKEN)


def estimate_input_tokens(payload: dict[str, Any]) -> int:
    """About how many tokens the prompt side of a chat or embedding payload has."""
    total = 0
    for name in ("messages", "input", "tools", "functions", "response_format"):
        value = payload.get(name)
        if isinstance(value, str):
            total += estimate_tokens(value)
        elif isinstance(value, list):
            total += sum(
                1 if isinstance(item, int) else estimate_tokens(_text_of(item)) + TOKENS_PER_MESSAGE for item in value
            )
        elif value is not None:
            total += estimate_tokens(orjson.dumps(value))
    return total


def _text_of(item: Any) -> bytes:
    """What of a message costs tokens: images count by their own rules upstream, not by the size of their base64."""
    if isinstance(item, str):
        return item.encode("utf-8", "replace")
    content = item.get("content") if isinstance(item, dict) else None
    if isinstance(content, str) and len(item) == 2:
        return content.encode("utf-8", "replace")
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, dict) and part.get("type") == "text"]
        return orjson.dumps({**item, "content": parts})
    return orjson.dumps(item)


def bounded_copy(payload: Any, *, most: int) -> Any:
    """`payload` if its JSON has at most `most` bytes, else a copy with long texts and lists cut, else a preview."""
    encoded = orjson.dumps(payload)
    if len(encoded) <= most:
        return payload if b"\\u0000" not in encoded else _cut(payload, texts=most, items=10_000)
    for texts, items in ((1000, 50), (200, 10)):
        cut = _cut(payload, texts=texts, items=items)
        if len(orjson.dumps(cut)) <= most:
            return cut
    return {"truncated": True, "preview": encoded[: most // 4].decode("utf-8", "replace").replace("\0", "\ufffd")}


def _cut(value: Any, *, texts: int, items: int) -> Any:
    if isinstance(value, str):
        text = value.replace("\0", "\ufffd")
        return text if len(text) <= texts else f"{text[:texts]}… ({len(text)} characters)"
    if isinstance(value, list):
        kept = [_cut(item, texts=texts, items=items) for item in value[:items]]
        return kept if len(value) <= items else [*kept, f"… ({len(value)} items)"]
    if isinstance(value, dict):
        return {key.replace("\0", "\ufffd"): _cut(item, texts=texts, items=items) for key, item in value.items()}
    return value
